/* Seeded bugs, on which the power of the tests is measured (tests/mutants/native.py says what each one is).
 * MG_BUG(n) is 1 in a build with -DMG_MUTANT=n and 0 in every other; then it leaves nothing in the code. */
#ifndef MG_MUTANT_H
#define MG_MUTANT_H

#ifdef MG_MUTANT
#define MG_BUG(n) (MG_MUTANT == (n))
#else
#define MG_BUG(n) 0
#endif

#endif
