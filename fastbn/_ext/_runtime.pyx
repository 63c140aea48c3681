"""What this build and this machine are: compiler, CPU levels, OpenMP. The only place that asks."""

import threading as _threading

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "_interrupt.h":
    ctypedef struct Process "fastbn_process":
        int busy
        unsigned long main_thread

cdef extern from *:
    """
    #ifdef _OPENMP
      #include <omp.h>
      #define FASTBN_OPENMP _OPENMP
    #else
      #define FASTBN_OPENMP 0
      static int omp_get_max_threads(void) { return 1; }
      static int omp_get_thread_limit(void) { return 1; }
      static int omp_get_active_level(void) { return 0; }
      static int omp_get_max_active_levels(void) { return 1; }
      static int omp_get_num_procs(void) { return 1; }
    #endif

    static int fastbn_read(int *p) {
    #if defined(__GNUC__) || defined(__clang__)
      return __atomic_load_n(p, __ATOMIC_RELAXED);
    #else
      return *(volatile int *)p;
    #endif
    }

    /* Feature names, not "x86-64-v3": older compilers know only these. */
    static int fastbn_cpu_level(void) {
    #if defined(__GNUC__) && defined(__x86_64__)
      __builtin_cpu_init();
      if (!(__builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2")
            && __builtin_cpu_supports("popcnt"))) return 1;
      if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))) return 2;
    #if !defined(__clang__) && __GNUC__ >= 11
      if (!(__builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt")
            && __builtin_cpu_supports("movbe"))) return 2;
    #endif
      if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl"))) return 3;
      return 4;
    #else
      return 0;
    #endif
    }

    #if defined(__unix__)
      #include <unistd.h>
    #endif
    /* Bytes of the last level of cache; 0 if the C library cannot tell. */
    static long fastbn_last_cache(void) {
      long size = 0;
    #if defined(_SC_LEVEL3_CACHE_SIZE)
      size = sysconf(_SC_LEVEL3_CACHE_SIZE);
      if (size <= 0) size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    #endif
      return size > 0 ? size : 0;
    }
    """
    const char *FASTBN_VERSION
    const char *FASTBN_COMPILER
    const char *FASTBN_LEVELS
    const char *FASTBN_BUILDTYPE
    int FASTBN_OPENMP
    int omp_get_max_threads() nogil
    int omp_get_thread_limit() nogil
    int omp_get_active_level() nogil
    int omp_get_max_active_levels() nogil
    int omp_get_num_procs() nogil
    int fastbn_read(int *p) nogil
    int fastbn_cpu_level() nogil
    long fastbn_last_cache() nogil

version = FASTBN_VERSION.decode()
compiler = FASTBN_COMPILER.decode()
buildtype = FASTBN_BUILDTYPE.decode()
levels_built = tuple(FASTBN_LEVELS.decode().split())
openmp = FASTBN_OPENMP
cpu_level = fastbn_cpu_level()


def _last_cache():
    """Bytes of the last cache; 0 if nobody can tell.

    The kernel knows the cache that cores share, the C library may add up those of all sockets.
    """
    for level in (3, 2):
        try:
            with open(f"/sys/devices/system/cpu/cpu0/cache/index{level}/size") as file:
                text = file.read().strip()
            return int(text.rstrip("KM")) << (20 if text.endswith("M") else 10)
        except (OSError, ValueError):
            pass
    return fastbn_last_cache()


last_cache = _last_cache()


cdef Process process  # zeros; _interrupt.h counts
shared = PyCapsule_New(&process, "fastbn._ext._runtime.shared", NULL)


def find_main_thread():
    """Have calls in Python's main thread ask for signals; after a fork that is another one."""
    process.main_thread = _threading.main_thread().ident


find_main_thread()


def busy():
    """Threads at work in all calls of kernels that run now."""
    return fastbn_read(&process.busy)


def openmp_limit():
    """Threads that OpenMP grants the calling Python thread now (threadpoolctl sets this)."""
    return omp_get_max_threads()


def openmp_most():
    """Threads that a parallel region begun here and now gets at most, whatever is asked for.

    1 within somebody else's, unless regions may be nested (OMP_MAX_ACTIVE_LEVELS).
    """
    if omp_get_active_level() >= omp_get_max_active_levels():
        return 1
    return omp_get_thread_limit()


def processors():
    """Cores that the calling thread may use now."""
    return omp_get_num_procs()
