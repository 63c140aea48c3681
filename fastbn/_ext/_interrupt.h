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

#if defined(__GNUC__)
#define FASTBN_GET(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define FASTBN_SET(x, value) __atomic_store_n(&(x), value, __ATOMIC_RELAXED)
#else
#define FASTBN_GET(x) (*(volatile int *)&(x))
#define FASTBN_SET(x, value) (*(volatile int *)&(x) = (value))
#endif

/* Of one call. All its threads look at `stop`; the thread that made the call asks Python. */
typedef struct {
  int stop;
  int asks;       /* handlers run in Python's main thread alone, so others need not ask */
  long long next; /* when to ask, in milliseconds; 0 before the first look at the clock */
} fastbn_watch;

/* Whether this is Python's main thread, or was when it was first asked: after a fork in another
   thread it is none, and an interrupt waits. */
static int fastbn_in_main_thread(void) {
  static int known;
  static unsigned long ident;
  if (!FASTBN_GET(known)) {
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *number = thread ? PyObject_GetAttrString(thread, "ident") : NULL;
    ident = number ? PyLong_AsUnsignedLong(number) : 0;
    Py_XDECREF(number);
    Py_XDECREF(thread);
    Py_XDECREF(threading);
    PyErr_Clear();
    FASTBN_SET(known, 1);
  }
  return PyThread_get_thread_ident() == ident;
}

static inline void fastbn_begin(fastbn_watch *watch) {
  watch->stop = 0;
  watch->asks = fastbn_in_main_thread();
  watch->next = 0;
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
