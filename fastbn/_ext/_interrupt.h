/* Ctrl-C in a long call. Python runs signal handlers between bytecodes, of which a kernel has none:
   unless it asks for them itself, an interrupt waits for the kernel's end. */
#ifndef FASTBN_INTERRUPT_H
#define FASTBN_INTERRUPT_H

#include <Python.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif
#ifdef _WIN32
#include <windows.h>
#endif

#define FASTBN_INTERVAL 200 /* milliseconds */

#if defined(__GNUC__) || defined(__clang__)
#define FASTBN_GET(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define FASTBN_SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_RELAXED)
#define FASTBN_ADD(p, n) __atomic_fetch_add(p, n, __ATOMIC_RELAXED)
#else /* MSVC, where volatile is both */
#define FASTBN_GET(x) (x)
#define FASTBN_SET(x, value) ((x) = (value))
#define FASTBN_ADD(p, n) InterlockedExchangeAdd((volatile LONG *)(p), n)
#endif

/* Of one call. All its threads look at `stop`; the thread that made the call asks Python. */
typedef struct {
  volatile int stop;
  int threads;
  int asks;       /* handlers run in Python's main thread alone, so others need not ask */
  long long next; /* when to ask, in milliseconds; 0 before the first look at the clock */
} fastbn_watch;

/* What all modules share: fastbn._ext._runtime has it. */
typedef struct {
  int busy;                           /* threads at work in all calls */
  volatile unsigned long main_thread; /* Python's; after a fork that may be another one */
} fastbn_process;

static fastbn_process *volatile fastbn_shared;

/* Runs no Python code: a handler's exception would be lost here. */
static fastbn_process *fastbn_look_up(void) {
  static fastbn_process alone;
  fastbn_process *shared = FASTBN_GET(fastbn_shared);
  if (!shared) {
    shared = (fastbn_process *)PyCapsule_Import("fastbn._ext._runtime.shared", 0);
    if (!shared) {
      PyErr_Clear();
      shared = &alone;
    }
    FASTBN_SET(fastbn_shared, shared);
  }
  return shared;
}

/* With the GIL, after all that can raise. */
static inline void fastbn_begin(fastbn_watch *watch, int num_threads) {
  fastbn_process *shared = fastbn_look_up();
  watch->stop = 0;
  watch->threads = num_threads;
  watch->asks = PyThread_get_thread_ident() == FASTBN_GET(shared->main_thread);
  watch->next = 0;
  FASTBN_ADD(&shared->busy, num_threads);
}

static inline int fastbn_end(fastbn_watch *watch) {
  FASTBN_ADD(&FASTBN_GET(fastbn_shared)->busy, -watch->threads);
  return watch->stop;
}

static inline int fastbn_given_up(fastbn_watch *watch) { return FASTBN_GET(watch->stop); }

static inline long long fastbn_milliseconds(void) {
#if defined(_WIN32)
  return (long long)GetTickCount64();
#else
  struct timespec now;
#if defined(CLOCK_MONOTONIC_COARSE)
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* some 7 ns, a fifth of the exact one */
#else
  clock_gettime(CLOCK_MONOTONIC, &now);
#endif
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
#endif
}

/* Without the GIL, in or outside a parallel region: whether to give up. Then an exception is set,
   and stays set until the kernel has the GIL back and says so (`finish` in _interrupt.pxd). */
static inline int fastbn_stopped(fastbn_watch *watch) {
  PyGILState_STATE state;
  long long now;
  if (FASTBN_GET(watch->stop)) return 1;
  if (!watch->asks || omp_get_thread_num() != 0) return 0;
  now = fastbn_milliseconds();
  if (now < watch->next) return 0;
  if (watch->next) {
    state = PyGILState_Ensure();
    if (PyErr_CheckSignals()) FASTBN_SET(watch->stop, 1); /* runs the handlers of what has come */
    PyGILState_Release(state);
    now = fastbn_milliseconds();
  }
  watch->next = now + FASTBN_INTERVAL;
  return FASTBN_GET(watch->stop);
}

#endif
