#define _GNU_SOURCE
#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

enum {
    /* A waiting thread looks this often before it sleeps, some 150 microseconds: longer than the gap between the
     * kernels of one training step, which Python fills; to wake a thread costs as much as a small kernel. */
    SPINS = 15000,
    /* At a barrier, before it gives its core away: the one that it waits for may be next on this very core. */
    SPINS_AT_BARRIER = 300,
};

static struct {
    atomic_int threads; /* 0: not set yet, which means 1 */

    /* The job. One word says which job it is (high half) and how many of its parts are still free (low half),
     * so a worker that wakes late can neither take a part twice nor take one of an older job. The fields
     * below it stay as they are until every part is done, so whoever holds a part may read them. */
    _Atomic uint64_t job;
    void (*fn)(void *ctx, int part, int parts);
    void *ctx;
    int parts;
    int cpu; /* the caller's, and which thread it is */
    pthread_t caller;
    fenv_t modes;
    atomic_int left; /* parts not finished */

    atomic_int busy; /* a caller holds the pool */
    int workers;     /* threads made; touched only by who holds the pool */
    _Alignas(64) atomic_int arrived; /* of a team, at the barrier */
    _Alignas(64) atomic_uint round;  /* how often it has opened; a line of its own, which the waiting look at */
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .finished = PTHREAD_COND_INITIALIZER};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static int free_parts(void) { return (uint32_t)atomic_load_explicit(&pool.job, memory_order_acquire) != 0; }

/* A worker that has slept is often woken where it slept, which may be where the caller computes now, and the system
 * takes milliseconds to see that another core is idle. So it goes there by itself, where the caller may go. */
static void leave_callers_cpu(void)
{
#ifdef __linux__
    if (pool.cpu < 0 || sched_getcpu() != pool.cpu) return;
    cpu_set_t cpus;
    if (pthread_getaffinity_np(pool.caller, sizeof cpus, &cpus) != 0) return;
    CPU_CLR(pool.cpu, &cpus);
    if (CPU_COUNT(&cpus) > 0) pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
#endif
}

/* Takes free parts and runs them until there is none. */
static void work(int is_worker)
{
    uint64_t job = atomic_load_explicit(&pool.job, memory_order_acquire);
    while ((uint32_t)job != 0) {
        if (!atomic_compare_exchange_weak_explicit(&pool.job, &job, job - 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        if (is_worker) fesetenv(&pool.modes), leave_callers_cpu();
        pool.fn(pool.ctx, pool.parts - (int)(uint32_t)job, pool.parts);
        if (atomic_fetch_sub_explicit(&pool.left, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_broadcast(&pool.finished);
            pthread_mutex_unlock(&pool.lock);
        }
        job = atomic_load_explicit(&pool.job, memory_order_acquire);
    }
}

static void *worker(void *unused)
{
    (void)unused;
    for (;;) {
        for (int i = 0; i < SPINS && !free_parts(); i++) RELAX();
        if (!free_parts()) {
            pthread_mutex_lock(&pool.lock);
            while (!free_parts()) pthread_cond_wait(&pool.wake, &pool.lock);
            pthread_mutex_unlock(&pool.lock);
        }
        work(1);
    }
    return NULL;
}

/* The child of fork has one thread, and locks may have been held by others: all starts anew. */
static void after_fork(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.finished, NULL);
    pool.workers = 0;
    atomic_store(&pool.job, 0);
    atomic_store(&pool.left, 0);
    atomic_store(&pool.busy, 0);
}

static void first_use(void) { pthread_atfork(NULL, NULL, after_fork); }

/* Makes workers until there are n; fewer when the system refuses, which costs time and nothing else. */
static void have_workers(int n)
{
    if (pool.workers >= n) return;
    sigset_t all, before; /* signals are for the threads of the program, not for ours */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    while (pool.workers < n && pthread_create(&thread, &detached, worker, NULL) == 0) pool.workers++;
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Takes hold of the pool, with workers for that many parts if they can be made; false where it is in use. */
static int take(int parts)
{
    if (parts <= 1 || atomic_exchange_explicit(&pool.busy, 1, memory_order_acquire)) return 0;
    pthread_once(&once, first_use);
    have_workers((parts < MG_MAX_THREADS ? parts : MG_MAX_THREADS) - 1);
    return 1;
}

static void let_go(void) { atomic_store_explicit(&pool.busy, 0, memory_order_release); }

/* Runs a job on the pool, which the caller holds. */
static void run(int parts, void (*fn)(void *ctx, int part, int parts), void *ctx)
{
    pool.fn = fn;
    pool.ctx = ctx;
    pool.parts = parts;
#ifdef __linux__
    pool.cpu = sched_getcpu(), pool.caller = pthread_self();
#endif
    fegetenv(&pool.modes);
    atomic_store_explicit(&pool.left, parts, memory_order_relaxed);
    uint64_t number = (atomic_load_explicit(&pool.job, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&pool.job, number << 32 | (uint32_t)parts, memory_order_release);
    pthread_mutex_lock(&pool.lock); /* whoever was on the way to sleep has seen the job, or sleeps now */
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);

    work(0);
    for (int i = 0; i < SPINS && atomic_load_explicit(&pool.left, memory_order_acquire) > 0; i++) RELAX();
    if (atomic_load_explicit(&pool.left, memory_order_acquire) > 0) {
        pthread_mutex_lock(&pool.lock);
        while (atomic_load_explicit(&pool.left, memory_order_acquire) > 0)
            pthread_cond_wait(&pool.finished, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    let_go();
}

void mg_parallel(int parts, void (*fn)(void *ctx, int part, int parts), void *ctx)
{
    if (take(parts)) run(parts, fn, ctx);
    else
        for (int part = 0; part < parts; part++) fn(ctx, part, parts);
}

/* A thread that waits at the barrier takes no other part, so with as many threads as parts none is left over. */
void mg_team(int parts, void (*fn)(void *ctx, int part, int parts), void *ctx)
{
    if (!take(parts)) {
        fn(ctx, 0, 1);
        return;
    }
    if (parts > pool.workers + 1) parts = pool.workers + 1;
    atomic_store_explicit(&pool.arrived, 0, memory_order_relaxed);
    if (parts > 1) run(parts, fn, ctx);
    else let_go(), fn(ctx, 0, 1);
}

static int is_closed(unsigned round) { return atomic_load_explicit(&pool.round, memory_order_acquire) == round; }

/* The last to arrive opens the next round. Whoever waits longer than a spin gives its core away: on a machine with
 * other work the one that is waited for may not be running. */
void mg_barrier(int parts)
{
    if (parts <= 1) return; /* and leave the barrier to a team of another caller */
    const unsigned round = atomic_load_explicit(&pool.round, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool.arrived, 1, memory_order_acq_rel) == parts - 1) {
        atomic_store_explicit(&pool.arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool.round, round + 1, memory_order_release);
        return;
    }
    for (int i = 0; i < SPINS_AT_BARRIER && is_closed(round); i++) RELAX();
    while (is_closed(round)) sched_yield();
}

int mg_set_threads(int n)
{
    atomic_store(&pool.threads, n < 1 ? 1 : n > MG_MAX_THREADS ? MG_MAX_THREADS : n);
    return mg_threads();
}

int mg_threads(void)
{
    int n = atomic_load(&pool.threads);
    return n > 0 ? n : 1;
}
