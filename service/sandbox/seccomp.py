"""A seccomp filter in hand-assembled BPF: which system calls a confined process may not make.

Everything a computation over its own files needs stays allowed; what reaches other processes, the network, other
programs, the kernel's configuration, or memory that no limit counts is refused with EPERM. System calls newer than
those this table knows are answered with ENOSYS, as on an older kernel; a foreign calling convention kills the process.

    load arch;  another one → kill
    load nr;    nr ≥ FIRST_UNKNOWN → ENOSYS  (that includes x32, which sets bit 30)
    nr in DENIED → EPERM
    a few by their arguments: clone, kill, tgkill, sched_setaffinity, fcntl, mmap, prctl, prlimit64
    → allow
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_UNKNOWN = 463  # setxattrat and newer; numbers from 424 on are the same on every architecture

# By name; numbers on x86-64 and arm64, None where the architecture has no such call. docs/service.md says why.
DENIED: dict[str, tuple[int, int | None]] = {
    # network
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "recvmmsg": (299, 243),
    # programs, processes, sessions, namespaces
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "unshare": (272, 97),
    "setns": (308, 268),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tkill": (200, 130),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # file systems
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # attributes of files, which Landlock does not guard
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "truncate": (76, 45),
    "mknod": (133, None),
    "mknodat": (259, 33),
    # the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "vhangup": (153, 58),
    # memory that RLIMIT_DATA does not count, and limits themselves
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "setrlimit": (160, 164),
    # identity
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "setgroups": (116, 159),
    "capset": (126, 91),
}
CONDITIONAL = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "sched_setaffinity": (203, 122),
    "fcntl": (72, 25),
    "mmap": (9, 222),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
}


@dataclass(frozen=True)
class Architecture:
    """column: of the tables above; audit: AUDIT_ARCH_*; seccomp: number of seccomp(2)."""

    column: int
    audit: int
    seccomp: int


ARCHITECTURES = {
    "x86_64": Architecture(0, 0xC000003E, 317),
    "aarch64": Architecture(1, 0xC00000B7, 277),
}

_LOAD, _EQUAL, _GREATER_EQUAL, _BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_CLONE_THREAD = 0x00010000
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED | MAP_ANONYMOUS
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15  # whom a file that is ready signals, and with what
_SECCOMP_SET_MODE_FILTER, _TSYNC = 1, 1

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def program(architecture: Architecture, pid: int) -> list[Instruction]:
    """The filter for a process of this id."""
    conditional = {name: numbers[architecture.column] for name, numbers in CONDITIONAL.items()}
    denied = (numbers[architecture.column] for numbers in DENIED.values())
    rules = [_LOAD_ARCH, (_EQUAL, 1, 0, architecture.audit), _returned(_KILL), _LOAD_NUMBER]
    rules += [(_GREATER_EQUAL, 0, 1, FIRST_UNKNOWN), _returned(_ENOSYS)]
    for number in denied:
        if number is not None:
            rules += _for(number, [_returned(_EPERM)])
    low = [(_LOAD, 0, 0, _ARGUMENTS + 8 * place) for place in range(6)]
    own = [low[0], *_if(_EQUAL, pid, _ALLOW, _EPERM)]
    rules += _for(conditional["clone"], [low[0], *_if(_BITS, _CLONE_THREAD, _ALLOW, _EPERM)])  # threads only
    rules += _for(conditional["clone3"], [_returned(_ENOSYS)])  # its flags are in memory: the C library takes clone
    rules += _for(conditional["kill"], own) + _for(conditional["tgkill"], own)
    # another process has no address here but its id; 0 is the thread that calls
    rules += _for(conditional["sched_setaffinity"], [low[0], (_EQUAL, 1, 0, 0), *_if(_EQUAL, pid, _ALLOW, _EPERM)])
    owners = [(_EQUAL, 2, 0, _F_SETOWN), (_EQUAL, 1, 0, _F_SETSIG), *_if(_EQUAL, _F_SETOWN_EX, _EPERM, _ALLOW)]
    rules += _for(conditional["fcntl"], [low[1], *owners])
    shared = [low[3], (_AND, 0, 0, _SHARED_ANONYMOUS), *_if(_EQUAL, _SHARED_ANONYMOUS, _EPERM, _ALLOW)]
    rules += _for(conditional["mmap"], shared)
    rules += _for(conditional["prctl"], [low[0], *_if(_EQUAL, _PR_SET_PDEATHSIG, _EPERM, _ALLOW)])
    high = (_LOAD, 0, 0, _ARGUMENTS + 8 * 2 + 4)
    reading = [low[2], (_EQUAL, 1, 0, 0), _returned(_EPERM), high, *_if(_EQUAL, 0, _ALLOW, _EPERM)]
    rules += _for(conditional["prlimit64"], reading)
    return [*rules, _returned(_ALLOW)]


_LOAD_ARCH: Instruction = (_LOAD, 0, 0, _ARCH)
_LOAD_NUMBER: Instruction = (_LOAD, 0, 0, _NUMBER)


def _returned(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _if(test: int, operand: int, then: int, otherwise: int) -> list[Instruction]:
    return [(test, 0, 1, operand), _returned(then), _returned(otherwise)]


def _for(number: int, block: Sequence[Instruction]) -> list[Instruction]:
    """The block, which ends in a return, for one system call."""
    return [(_EQUAL, 0, len(block), number), *block]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install() -> None:
    """Filter the system calls of this process, every thread of it, from now on; also sets no_new_privs.

    Raises OSError where the kernel or the architecture has no such filter.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise OSError(errno.ENOSYS, f"no system call table for {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    rules = program(architecture, os.getpid())
    code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
    filled = _Program(len(rules), code)
    if libc.syscall(architecture.seccomp, _SECCOMP_SET_MODE_FILTER, _TSYNC, ctypes.byref(filled)):
        raise OSError(ctypes.get_errno(), "seccomp filter")
