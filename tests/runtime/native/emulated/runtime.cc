// A CUDA runtime without a GPU: launches run the translated kernels thread by thread, blocks and threads in random order.
// Device memory is closed except during launches and copies, and every allocation lies between closed pages, so that
// host code that reads a device pointer crashes, and a kernel that leaves its tensor does.
#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <unordered_map>
#include <utility>

#include "runtime.h"
#include "thread.h"

namespace emulated {

std::map<std::string, unsigned long long> counts;
std::vector<std::function<void()>>* captured = nullptr;

namespace {

constexpr std::uint64_t kPage = 4096;
std::recursive_mutex lock;
// By the host's function. Made at the first use, since the objects of kernels register before main.
std::unordered_map<const void*, const Kernel*>& launchable() {
  static std::unordered_map<const void*, const Kernel*> all;
  return all;
}
std::map<std::uint64_t, std::uint64_t> allocations;         // address → bytes, whole pages
thread_local Error last = kSuccess;
std::mt19937 generator(1);

// ---- What one launch has written.
using Flags = std::array<bool, kPage>;
std::unordered_map<std::uint64_t, std::unique_ptr<Flags>> written;
const char* running = "";

Flags* flags(std::uint64_t page, bool make) {
  static std::uint64_t recent = 0;
  static Flags* found = nullptr;
  if (page == recent && found) return found;
  const auto place = written.find(page);
  if (place == written.end() && !make) return nullptr;
  recent = page;
  return found = place != written.end() ? place->second.get() : (written[page] = std::make_unique<Flags>()).get();
}

[[noreturn]] void wrong(const char* what, std::uint64_t address) {
  std::fprintf(stderr, "emulated CUDA: %s %s, at byte %#llx\n", running, what, static_cast<unsigned long long>(address));
  std::_Exit(70);
}

// ---- Memory, open or closed.
struct Open {
  Open() { protect(PROT_READ | PROT_WRITE, depth++); }
  ~Open() { protect(PROT_NONE, --depth); }

 private:
  std::lock_guard<std::recursive_mutex> held{lock};
  static inline int depth = 0;
  static void protect(int how, int outer) {
    if (outer == 0)
      for (const auto& [address, bytes] : allocations) mprotect(reinterpret_cast<void*>(address), bytes, how);
  }
};

void run(const Kernel& kernel, Dim grid, Dim block, void** arguments) {
  const Open open;
  running = kernel.name;
  for (auto& [page, bytes] : written) bytes->fill(false);
  counts["launches"] += 1;
  counts["bytes written"] = 0;
  std::vector<std::uint32_t> blocks(grid.x), threads(block.x);
  std::iota(blocks.begin(), blocks.end(), 0u);
  std::iota(threads.begin(), threads.end(), 0u);
  std::shuffle(blocks.begin(), blocks.end(), generator);
  for (const auto b : blocks) {
    std::shuffle(threads.begin(), threads.end(), generator);
    for (const auto t : threads) kernel.run(arguments, Thread{t, block.x, b, grid.x});
  }
}

Error launch(const void* function, Dim grid, Dim block, void** arguments) {
  const auto found = launchable().find(function);
  if (found == launchable().end()) {
    counts["unknown kernels"] += 1;
    return failed(kNoSuchKernel);
  }
  const auto flat = [](Dim dim, unsigned most) { return dim.x > 0 && dim.x <= most && dim.y == 1 && dim.z == 1; };
  if (!flat(grid, 0x7fffffffu) || !flat(block, 1024)) return failed(kInvalidConfiguration);
  const Kernel& kernel = *found->second;
  std::vector<std::vector<char>> copies;
  for (std::size_t k = 0; k < kernel.sizes.size(); ++k) {
    const auto* bytes = static_cast<const char*>(arguments[k]);
    copies.emplace_back(bytes, bytes + kernel.sizes[k]);
  }
  submit([=, &kernel]() mutable {
    std::vector<void*> pointers;
    for (auto& each : copies) pointers.push_back(each.data());
    run(kernel, grid, block, pointers.data());
  });
  return kSuccess;
}

struct {
  Dim grid, block;
  std::size_t shared;
  void* stream;
} pushed;

}  // namespace

void check(std::uint64_t address, std::uint64_t bytes, bool store) {
  if (address % bytes) wrong("makes a misaligned access", address);
  Flags* const page = flags(address / kPage, store);  // an aligned access lies in one page
  if (!page) return;
  for (std::uint64_t k = address % kPage; k < address % kPage + bytes; ++k) {
    if ((*page)[k]) wrong(store ? "writes a byte twice" : "reads a byte that it has written", address);
    (*page)[k] = store;
  }
  if (store) counts["bytes written"] += bytes;
}

void submit(std::function<void()> work) {
  const std::lock_guard<std::recursive_mutex> held(lock);
  if (captured)
    captured->push_back(std::move(work));
  else
    work();
}

Error failed(Error error) { return last = error; }

bool on_device(const void* pointer) {
  const std::lock_guard<std::recursive_mutex> held(lock);
  const auto address = reinterpret_cast<std::uint64_t>(pointer);
  const auto next = allocations.upper_bound(address);
  return next != allocations.begin() && address < std::prev(next)->first + std::prev(next)->second;
}

}  // namespace emulated

using namespace emulated;

EMULATED_API unsigned long long emulated_count(const char* what) { return counts[what]; }
EMULATED_API void emulated_reset() { counts.clear(); }

// ---- What nvcc's host code calls.
EMULATED_API void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
EMULATED_API void __cudaRegisterFatBinaryEnd(void**) {}
EMULATED_API void __cudaUnregisterFatBinary(void**) {}
EMULATED_API void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
EMULATED_API void __cudaRegisterFunction(void**, const char* host, char*, const char* device, int, void*, void*, void*, void*, int*) {
  for (const Kernel& kernel : kernels())
    if (std::string(kernel.name) == device) launchable()[host] = &kernel;
}
EMULATED_API unsigned __cudaPushCallConfiguration(Dim grid, Dim block, std::size_t shared, void* stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
EMULATED_API Error __cudaPopCallConfiguration(Dim* grid, Dim* block, std::size_t* shared, void** stream) {
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared, *stream = pushed.stream;
  return kSuccess;
}
EMULATED_API Error __cudaGetKernel(const void** kernel, const void* function) {
  *kernel = function;
  return kSuccess;
}
EMULATED_API Error __cudaLaunchKernel(const void* kernel, Dim grid, Dim block, void** arguments, std::size_t, void*) {
  return launch(kernel, grid, block, arguments);
}
EMULATED_API Error cudaLaunchKernel(const void* function, Dim grid, Dim block, void** arguments, std::size_t, void*) {
  return launch(function, grid, block, arguments);
}

// ---- The device: compute capability 9.0, whichever the kernels were compiled for.
EMULATED_API Error cudaGetDevice(int* device) { return *device = 0, kSuccess; }
EMULATED_API Error cudaDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int kMultiProcessors = 16, kMajor = 75, kMinor = 76;  // of cudaDeviceAttr
  *value = attribute == kMajor ? 9 : attribute == kMinor ? 0 : attribute == kMultiProcessors ? 132 : 1024;
  return kSuccess;
}

// ---- Memory.
EMULATED_API Error cudaMalloc(void** pointer, std::size_t size) {
  const std::lock_guard<std::recursive_mutex> held(lock);
  const std::uint64_t bytes = std::max<std::uint64_t>((size + kPage - 1) / kPage, 1) * kPage;
  void* const base = mmap(nullptr, bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return failed(kOutOfMemory);
  *pointer = static_cast<char*>(base) + kPage;
  allocations[reinterpret_cast<std::uint64_t>(*pointer)] = bytes;
  counts["allocations"] += 1;
  counts["allocations in a capture"] += captured != nullptr;
  return kSuccess;
}
EMULATED_API Error cudaFree(void* pointer) {
  const std::lock_guard<std::recursive_mutex> held(lock);
  const auto found = allocations.find(reinterpret_cast<std::uint64_t>(pointer));
  if (found == allocations.end()) return pointer ? failed(kInvalidValue) : kSuccess;
  munmap(static_cast<char*>(pointer) - kPage, found->second + 2 * kPage);
  allocations.erase(found);
  return kSuccess;
}
EMULATED_API Error cudaMemcpyAsync(void* to, const void* from, std::size_t size, int kind, void*) {
  static constexpr const char* kKinds[] = {"host to host", "host to device", "device to host", "device to device"};
  if (kind < 4 && size && (on_device(to) != (kind & 1) || on_device(from) != (kind >= 2))) {
    std::fprintf(stderr, "emulated CUDA: a copy from %s, but the memory is another\n", kKinds[kind]);
    return failed(kInvalidValue);
  }
  if (kind < 4) counts[kKinds[kind]] += 1;
  submit([=] {
    const Open open;
    std::memcpy(to, from, size);
  });
  return kSuccess;
}
EMULATED_API Error cudaMemcpy(void* to, const void* from, std::size_t size, int kind) {
  return cudaMemcpyAsync(to, from, size, kind, nullptr);
}
EMULATED_API Error cudaMemsetAsync(void* to, int value, std::size_t size, void*) {
  submit([=] {
    const Open open;
    std::memset(to, value, size);
  });
  return kSuccess;
}

// ---- Errors.
EMULATED_API Error cudaGetLastError() { return std::exchange(last, kSuccess); }
EMULATED_API Error cudaPeekAtLastError() { return last; }
EMULATED_API const char* cudaGetErrorName(Error error) { return error ? "cudaErrorEmulated" : "cudaSuccess"; }
EMULATED_API const char* cudaGetErrorString(Error error) {
  if (error == kInvalidConfiguration) return "invalid configuration argument";
  if (error == kNoSuchKernel) return "invalid device function";
  return error ? "another error of the emulated runtime" : "no error";
}
