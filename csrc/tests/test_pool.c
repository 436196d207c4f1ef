/* The pool: every part runs once, in the caller's floating-point modes; teams, whose parts run at the same time;
 * two callers at once; fork. */
#include "check.h"
#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

struct count {
    atomic_int runs[200];
    atomic_int wrong;
    int parts, modes;
};

static void count_part(void *ctx, int part, int parts)
{
    struct count *c = ctx;
    if (parts != c->parts || part < 0 || part >= parts || fegetround() != c->modes)
        atomic_fetch_add(&c->wrong, 1);
    atomic_fetch_add(&c->runs[part], 1);
    for (int i = (int)(part % 3) * 300; i > 0; i--) __asm__ volatile("");
}

static void check_parts(int parts, int modes)
{
    struct count c = {.parts = parts, .modes = modes};
    mg_parallel(parts, count_part, &c);
    CHECK(atomic_load(&c.wrong) == 0, "%d parts: a part had wrong numbers or modes", parts);
    for (int i = 0; i < parts; i++)
        CHECK(c.runs[i] == 1, "%d parts: part %d ran %d times", parts, i, c.runs[i]);
}

/* Two parts that wait for each other: they end only when two threads run them. */
static void meet(void *ctx, int part, int parts)
{
    atomic_int *here = ctx;
    (void)part, (void)parts;
    atomic_fetch_add(here, 1);
    while (atomic_load(here) < 2) sched_yield();
}

/* A team: in each round every part writes, and behind the barrier sees what the others wrote in this round.
 * There are two places to write to, so one barrier a round is enough, and a part that runs ahead or comes
 * through a barrier too early is seen. The places are plain memory: the barrier alone orders the accesses. */
struct team {
    int place[2][MG_MAX_THREADS];
    atomic_int runs[MG_MAX_THREADS], wrong, told;
    pthread_t thread[MG_MAX_THREADS];
    int rounds, modes;
};

static void team_part(void *ctx, int part, int parts)
{
    struct team *team = ctx;
    int none = 0;
    if (part < 0 || part >= parts || parts > MG_MAX_THREADS || fegetround() != team->modes ||
        (!atomic_compare_exchange_strong(&team->told, &none, parts) && none != parts)) {
        atomic_fetch_add(&team->wrong, 1);
        return;
    }
    atomic_fetch_add(&team->runs[part], 1);
    team->thread[part] = pthread_self();
    for (int round = 0; round < team->rounds; round++) {
        for (int i = (round * 7 + part * 13) % 50; i > 0; i--) __asm__ volatile("");
        team->place[round % 2][part] = round * MG_MAX_THREADS + part;
        if (parts > 1) mg_barrier(parts);
        for (int other = 0; other < parts; other++)
            if (team->place[round % 2][other] != round * MG_MAX_THREADS + other) atomic_fetch_add(&team->wrong, 1);
    }
}

/* How many parts there were: each ran once, and if they met, on a thread of its own. */
static int team_of(int parts, int rounds)
{
    struct team team = {.rounds = rounds, .modes = fegetround()};
    mg_team(parts, team_part, &team);
    const int told = atomic_load(&team.told);
    CHECK(atomic_load(&team.wrong) == 0, "team of %d, told %d: %d times wrong numbers, modes or neighbours", parts,
          told, atomic_load(&team.wrong));
    for (int i = 0; i < MG_MAX_THREADS; i++) {
        CHECK(team.runs[i] == (i < told), "team of %d, told %d: part %d ran %d times", parts, told, i,
              team.runs[i]);
        for (int j = 0; j < i && i < told && rounds > 0; j++)
            CHECK(!pthread_equal(team.thread[i], team.thread[j]), "team of %d: one thread for two parts", parts);
    }
    return told;
}

static void check_team(int parts, int rounds, int expected)
{
    const int told = team_of(parts, rounds);
    CHECK(told == expected, "a team of %d had %d parts instead of %d", parts, told, expected);
}

static void team_within(void *ctx, int part, int parts)
{
    (void)ctx, (void)part, (void)parts;
    check_team(4, 3, 1);
}

/* Two callers: one has the pool, the other is on its own. */
static void *team_caller(void *ones)
{
    for (int i = 0; i < 1000; i++) {
        const int parts = 2 + i % 3, told = team_of(parts, 5);
        CHECK(told == parts || told == 1, "beside another caller a team of %d had %d parts", parts, told);
        atomic_fetch_add((atomic_int *)ones, told == 1);
        if (i % 3 == 0) check_parts(3, FE_TONEAREST);
    }
    return NULL;
}

/* A team that holds the pool until it is told to go. */
static atomic_int held, go;
static void hold(void *ctx, int part, int parts)
{
    (void)ctx, (void)part, (void)parts;
    atomic_fetch_add(&held, 1);
    while (!atomic_load(&go)) sched_yield();
}
static void *holder(void *unused)
{
    mg_team(2, hold, NULL);
    return unused;
}

static void check_teams(void)
{
    for (int parts = 1; parts <= 6; parts++) check_team(parts, 500, parts);
    check_team(2, 20000, 2), check_team(3, 5000, 3);
    for (int i = 0; i < 300; i++) {
        check_team(2 + i % 4, i % 3, 2 + i % 4); /* also teams that never meet */
        if (i % 5 == 0) check_parts(1 + i % 9, FE_TONEAREST); /* their parts may be more than the threads */
        if (i % 50 == 0) usleep(2000);
    }
    check_team(MG_MAX_THREADS, 20, MG_MAX_THREADS);
    check_team(MG_MAX_THREADS + 1, 20, MG_MAX_THREADS);
    check_team(1000, 20, MG_MAX_THREADS);
    check_team(2, 500, 2); /* now most of the workers have no part */
#ifdef FE_UPWARD
    fesetround(FE_UPWARD);
    check_team(3, 10, 3);
    fesetround(FE_TONEAREST);
#endif
    mg_parallel(3, team_within, NULL);
    mg_team(2, team_within, NULL);

    pthread_t other;
    pthread_create(&other, NULL, holder, NULL);
    while (atomic_load(&held) < 2) sched_yield();
    for (int i = 0; i < 100; i++) check_team(1 + i % 5, 3, 1);
    atomic_store(&go, 1);
    pthread_join(other, NULL);
    check_team(4, 10, 4); /* the pool is free again */

    atomic_int ones = 0;
    pthread_create(&other, NULL, team_caller, &ones);
    team_caller(&ones);
    pthread_join(other, NULL);
    check_team(4, 10, 4);
}

/* Where no thread can be made, for want of memory for its stack, the caller does everything. (A sanitizer would
 * want memory, too.) */
static void check_poverty(void)
{
#ifndef __SANITIZE_ADDRESS__
    struct rlimit before, none;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0, "no limit of memory");
    none = before, none.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_AS, &none);
    const int told = team_of(4, 3);
    check_parts(5, FE_TONEAREST);
    setrlimit(RLIMIT_AS, &before);
    CHECK(told == 1, "without memory a team of 4 had %d parts", told);
    check_team(4, 3, 4);
#endif
}

/* More threads than cores: all of them on one core, which another thread never leaves. */
static atomic_int enough;
static void *busy(void *unused)
{
    while (!atomic_load_explicit(&enough, memory_order_relaxed)) __asm__ volatile("");
    return unused;
}
static void check_crowd(void)
{
#ifdef __linux__
    cpu_set_t cpus, first;
    CPU_ZERO(&first);
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&first) == 0; i++)
            if (CPU_ISSET(i, &cpus)) CPU_SET(i, &first);
    sched_setaffinity(0, sizeof first, &first); /* which threads that are made from now on inherit */
#endif
    pthread_t other;
    CHECK(pthread_create(&other, NULL, busy, NULL) == 0, "no thread");
    check_team(4, 100, 4);
    atomic_store(&enough, 1);
    pthread_join(other, NULL);
}

static void nested(void *ctx, int part, int parts)
{
    (void)ctx, (void)part, (void)parts;
    check_parts(3, FE_TONEAREST);
}

static void *caller(void *unused)
{
    for (int i = 0; i < 3000; i++) check_parts(1 + i % 5, FE_TONEAREST);
    return unused;
}

/* A product on two threads and its sum, which no thread, fork or neighbour may change. Its memory is made before any
 * fork: a child must not allocate, because another thread may have held the lock of a sanitizer's allocator. */
enum { M = 256, K = 256 };
struct product {
    float *a, *out;
    void *scratch;
    double expected;
};

static struct product product_new(void)
{
    struct product p = {malloc(M * K * sizeof(float)), malloc(M * M * sizeof(float)),
                        malloc((size_t)mg_gemm_scratch(MG_F32, M, M, 1, K)), 0};
    for (int i = 0; i < M * K; i++) p.a[i] = (float)(i % 17 - 8) / 7;
    return p;
}

static double product(const struct product *p)
{
    mg_gemm(MG_F32, M, M, 1, K, p->a, K, 0, 1, p->a, 0, 1, K, NULL, 0, 0, p->out, M, p->scratch);
    double sum = 0;
    for (int i = 0; i < M * M; i++) sum += p->out[i] * (i % 5 + 1);
    return sum;
}

static atomic_int stop;
static void *worker(void *p)
{
    const struct product *mine = p;
    while (!atomic_load(&stop)) {
        CHECK(product(mine) == mine->expected, "a product went wrong beside a fork");
        team_of(3, 10);
    }
    return NULL;
}

/* The child makes workers of its own. */
static struct product ours;
static void check_child(void)
{
    atomic_int here = 0;
    mg_parallel(2, meet, &here);
    check_team(3, 10, 3);
    CHECK(product(&ours) == ours.expected, "a product went wrong in a child of fork");
}

static void in_child(void (*check)(void))
{
    fflush(stdout);
    const pid_t child = fork();
    CHECK(child >= 0, "no fork");
    if (child == 0) {
        alarm(120);
        check();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child of fork failed: status %d", status);
}

int main(void)
{
    alarm(300); /* a pool that hangs fails */
    /* Emulators of other machines cannot make a thread in a child of fork; there these parts are left out. */
    const char *emulated = getenv("MG_TEST_EMULATED");
    const int forks = emulated && *emulated ? 0 : 30;
    if (forks) in_child(check_poverty); /* no stack of an earlier thread is left over */
    for (int parts = 0; parts <= 200; parts += parts < 8 ? 1 : 64) check_parts(parts, FE_TONEAREST);
    for (int i = 0; i < 300; i++) {
        atomic_int here = 0;
        mg_parallel(2, meet, &here);
        if (i % 50 == 0) usleep(2000); /* time enough for the workers to fall asleep */
    }
    mg_parallel(2, nested, NULL);

#ifdef FE_UPWARD
    fesetround(FE_UPWARD);
    check_parts(8, FE_UPWARD);
    fesetround(FE_TONEAREST);
    check_parts(8, FE_TONEAREST);
#endif

    pthread_t other;
    pthread_create(&other, NULL, caller, NULL);
    caller(NULL);
    pthread_join(other, NULL);
    check_teams();

    struct product theirs = product_new();
    ours = product_new();
    mg_set_threads(1);
    ours.expected = theirs.expected = product(&ours);
    mg_set_threads(2);
    CHECK(product(&ours) == ours.expected, "two threads give another product than one");
    pthread_create(&other, NULL, worker, &theirs);
    usleep(20000); /* by then it has started, which allocates too */
    for (int i = 0; i < forks; i++) in_child(i % 10 ? check_child : check_crowd);
    atomic_store(&stop, 1);
    pthread_join(other, NULL);
    for (int i = 0; i < 2; i++) {
        struct product *p = i ? &ours : &theirs;
        free(p->a), free(p->out), free(p->scratch);
    }
    printf("parts, teams, modes, two callers%s as promised\n", forks ? " and fork" : " (fork left out)");
    return 0;
}
