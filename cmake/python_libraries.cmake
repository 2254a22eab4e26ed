# The libraries that the Python package loads: _ops, and _ops_cuda with the kernels in it, of which
# the loader (machin_fast/_extension.py) takes the one that fits the torch in use; and _actor_pool,
# which knows no torch.
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.SABIModule)

# The libraries ask for libtorch by name only (no rpath): torch is imported first, whichever it is.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c
          "import torch; from torch.utils.cpp_extension import include_paths; \
print(torch.__version__); print(torch.version.cuda or ''); print(';'.join(include_paths())); print(torch.__path__[0])"
  OUTPUT_VARIABLE torch_facts
  ERROR_VARIABLE torch_error
  RESULT_VARIABLE torch_failed
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(torch_failed)
  message(FATAL_ERROR "machin_fast: torch must be importable to build, it is not:\n${torch_error}\n"
                      "Install torch >= 2.10, or build without --no-build-isolation.")
endif()
string(REPLACE "\n" "|" torch_facts "${torch_facts}")
string(REGEX MATCH "^([^|]*)\\|([^|]*)\\|([^|]*)\\|(.*)$" torch_facts "${torch_facts}")
set(torch_version "${CMAKE_MATCH_1}")
set(torch_cuda "${CMAKE_MATCH_2}")
set(torch_includes "${CMAKE_MATCH_3}")
set(torch_libraries "${CMAKE_MATCH_4}/lib")
set(mf_least_torch "2.10")
if(torch_version VERSION_LESS mf_least_torch)
  message(FATAL_ERROR "machin_fast: torch must be at least ${mf_least_torch}, got ${torch_version}")
endif()

# CUDA or not, and why: printed here and shown by machin_fast.build_info().
include(CheckLanguage)
set(mf_cuda OFF)
if(MF_CUDA STREQUAL "OFF")
  set(mf_cuda_reason "MF_CUDA=OFF was asked for")
else()
  check_language(CUDA)
  if(MF_CUDA STREQUAL "ON")
    if(NOT CMAKE_CUDA_COMPILER)
      message(FATAL_ERROR "machin_fast: MF_CUDA=ON needs nvcc, none was found. "
                          "Put it on the PATH or set CUDACXX.")
    endif()
    set(mf_cuda ON)
    set(mf_cuda_reason "MF_CUDA=ON was asked for")
  elseif(NOT CMAKE_CUDA_COMPILER)
    set(mf_cuda_reason "MF_CUDA=AUTO found no nvcc")
  elseif(torch_cuda STREQUAL "")
    set(mf_cuda_reason "MF_CUDA=AUTO and torch ${torch_version} has no CUDA")
  else()
    set(mf_cuda ON)
    set(mf_cuda_reason "MF_CUDA=AUTO found nvcc, and torch ${torch_version} has CUDA ${torch_cuda}")
  endif()
endif()
message(STATUS "machin_fast: CUDA ${mf_cuda}: ${mf_cuda_reason}")

file(GLOB binding_sources CONFIGURE_DEPENDS csrc/bindings/*.cpp)

function(mf_add_ops_library name with_cuda)
  Python_add_library(${name} MODULE USE_SABI 3.10 WITH_SOABI ${op_sources} ${binding_sources})
  target_link_libraries(${name} PRIVATE machin_fast_core)
  target_include_directories(${name} PRIVATE csrc)
  target_include_directories(${name} SYSTEM PRIVATE ${torch_includes})
  target_link_directories(${name} PRIVATE ${torch_libraries})
  target_link_libraries(${name} PRIVATE torch_cpu)
  target_compile_definitions(
    ${name}
    PRIVATE TORCH_TARGET_VERSION=0x020a000000000000ULL
            MF_MODULE=${name}
            MF_VERSION="${PROJECT_VERSION}"
            MF_TORCH_BUILT="${torch_version}"
            MF_TORCH_LEAST="${mf_least_torch}"
            MF_CUDA_REASON="${mf_cuda_reason}")
  if(with_cuda)
    target_sources(${name} PRIVATE ${cuda_sources})
    target_compile_definitions(${name} PRIVATE MF_WITH_CUDA USE_CUDA MF_CUDA_VERSION="${CMAKE_CUDA_COMPILER_VERSION}")
    target_link_libraries(${name} PRIVATE torch_cuda_names CUDA::cudart_static)
    # The stand-in's folder must not be searched at run time, and the name must stay needed.
    target_link_options(${name} PRIVATE -Wl,--no-as-needed)
    set_target_properties(${name} PROPERTIES SKIP_BUILD_RPATH ON)
  endif()
  install(TARGETS ${name} LIBRARY DESTINATION machin_fast)
endfunction()

mf_add_ops_library(_ops OFF)
if(mf_cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  endif()
  enable_language(C)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  find_package(CUDAToolkit REQUIRED)
  add_library(torch_cuda_names SHARED cmake/torch_cuda_names.c)
  set_target_properties(torch_cuda_names PROPERTIES OUTPUT_NAME torch_cuda C_VISIBILITY_PRESET default)
  mf_add_ops_library(_ops_cuda ON)
endif()

file(GLOB actor_pool_bindings CONFIGURE_DEPENDS csrc/bindings/actor_pool/*.cpp)
Python_add_library(_actor_pool MODULE USE_SABI 3.10 WITH_SOABI ${actor_pool_bindings})
target_link_libraries(_actor_pool PRIVATE machin_fast_actor_pool)
install(TARGETS _actor_pool LIBRARY DESTINATION machin_fast)
