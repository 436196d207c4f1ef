/* The choice of instruction set and of the number of threads. */
#include "check.h"

int main(void)
{
    char best[32];
    const char *isas = mg_isas();
    sscanf(isas, "%31s", best);
    CHECK(strcmp(mg_isa(), best) == 0, "in use at first: %s, best: %s", mg_isa(), best);
    CHECK(strcmp(isas + strlen(isas) - 7, "generic") == 0, "generic is not the last of: %s", isas);
    CHECK(strstr(isas, "  ") == NULL && isas[0] != ' ', "not one space between two of: '%s'", isas);

    int n = 0;
    FOR_EACH_ISA(name) n++;
    CHECK(n >= 1 && strcmp(mg_isa(), "generic") == 0, "the last one chosen was not generic");

    const char *wrong[] = {"", "gener", "generic ", "sse", "AVX2", "avx512 avx2 generic"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK(mg_set_isa(wrong[i]) == -1, "'%s' was accepted", wrong[i]);
        CHECK(strcmp(mg_isa(), "generic") == 0, "'%s' changed the instruction set", wrong[i]);
    }

    /* Scratch is enough for whatever is chosen after it was asked for: instruction set or threads. */
    for (int dtype = 0; dtype < 2; dtype++) {
        mg_set_isa("generic");
        mg_set_threads(1);
        const int64_t gemm = mg_gemm_scratch(dtype, 300, 300, 2, 300);
        int64_t recurrent[6];
        for (int cell = 0; cell < 6; cell++) recurrent[cell] = mg_recurrent_scratch(dtype, cell, 9, 8, 7, 6);
        FOR_EACH_ISA(name) {
            mg_set_threads(1000);
            CHECK(mg_gemm_scratch(dtype, 300, 300, 2, 300) == gemm, "%s: another scratch of the product", name);
            for (int cell = 0; cell < 6; cell++)
                CHECK(mg_recurrent_scratch(dtype, cell, 9, 8, 7, 6) == recurrent[cell],
                      "%s: another scratch of cell %d", name, cell);
        }
    }

    CHECK(mg_set_threads(0) == 1 && mg_threads() == 1, "0 threads became %d", mg_threads());
    CHECK(mg_set_threads(-5) == 1 && mg_threads() == 1, "-5 threads became %d", mg_threads());
    CHECK(mg_set_threads(2) == 2 && mg_threads() == 2, "2 threads became %d", mg_threads());
    CHECK(mg_set_threads(1 << 30) == 32 && mg_threads() == 32, "2^30 threads became %d", mg_threads());
    printf("%d instruction sets: %s\n", n, isas);
    return 0;
}
