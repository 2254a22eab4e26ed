// What check_isa_symbols.py must object to: a function that other objects may share.
#include "core/isa.h"

namespace machin_fast {

__attribute__((noinline)) inline int shared_by_all(int x) {
  return x + 1;
}

namespace MF_ISA {
template <typename T>
__attribute__((noinline)) T own(T x) {
  return shared_by_all(x);
}
template int own(int);
}  // namespace MF_ISA

}  // namespace machin_fast
