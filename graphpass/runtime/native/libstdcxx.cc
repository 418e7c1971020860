// What libstdc++ of GCC 11 throws for a length beyond all memory, by a function that older systems do not have. With the one here
// the library runs with the libstdc++ of GCC 5, so that the wheel is not bound to new systems (decision 0040).
#include <new>

#ifdef __GLIBCXX__
namespace std {

[[noreturn]] __attribute__((visibility("hidden"))) void __throw_bad_array_new_length() { throw bad_array_new_length(); }

}  // namespace std
#endif
