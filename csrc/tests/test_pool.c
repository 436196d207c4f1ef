/* The pool: every part runs once, in the caller's floating-point modes; two callers at once; fork. */
#include "check.h"
#include "pool.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
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
    while (!atomic_load(&stop)) CHECK(product(mine) == mine->expected, "a product went wrong beside a fork");
    return NULL;
}

int main(void)
{
    alarm(120); /* a pool that hangs fails */
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

    struct product ours = product_new(), theirs = product_new();
    mg_set_threads(1);
    ours.expected = theirs.expected = product(&ours);
    mg_set_threads(2);
    CHECK(product(&ours) == ours.expected, "two threads give another product than one");
    pthread_create(&other, NULL, worker, &theirs);
    usleep(20000); /* by then it has started, which allocates too */
    /* Emulators of other machines cannot make a thread in a child of fork; there this part is left out. */
    const char *emulated = getenv("MG_TEST_EMULATED");
    const int forks = emulated && *emulated ? 0 : 30;
    for (int i = 0; i < forks; i++) {
        pid_t child = fork();
        CHECK(child >= 0, "no fork");
        if (child == 0) {
            alarm(60);
            atomic_int here = 0;
            mg_parallel(2, meet, &here); /* the child makes a worker of its own */
            _exit(product(&ours) == ours.expected ? 0 : 1);
        }
        int status = 0;
        waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child of fork failed: status %d", status);
    }
    atomic_store(&stop, 1);
    pthread_join(other, NULL);
    for (int i = 0; i < 2; i++) {
        struct product *p = i ? &ours : &theirs;
        free(p->a), free(p->out), free(p->scratch);
    }
    printf("parts, modes, two callers%s as promised\n", forks ? " and fork" : " (fork left out)");
    return 0;
}
