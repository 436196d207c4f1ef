/* A small pool of threads.
 *
 * mg_parallel calls fn(ctx, part, parts) for part = 0 .. parts-1 and returns when all are done. The caller
 * works too; which thread runs a part is not fixed. When the pool is in use by another caller, or no thread
 * can be made, the caller does every part itself. Worker threads are made when first needed, and a child of
 * fork starts with none. Parts run with the caller's floating-point modes (rounding, denormals).
 */
#ifndef MG_POOL_H
#define MG_POOL_H

enum { MG_MAX_THREADS = 32 };

int mg_set_threads(int n);
int mg_threads(void);
void mg_parallel(int parts, void (*fn)(void *ctx, int part, int parts), void *ctx);

/* The same for parts that wait for one another: each has a thread of its own, and where there are not so many
 * threads to be had there are fewer parts, which fn is told. mg_barrier takes the number that fn was told and
 * returns when all of these parts have called it. */
void mg_team(int parts, void (*fn)(void *ctx, int part, int parts), void *ctx);
void mg_barrier(int parts);

#endif
