/* Ends the region of code that simd.h opened for one instruction set. */
#ifdef MG_TARGET_PUSHED
#undef MG_TARGET_PUSHED
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
