/*
 * Confidence sequences: intervals that are right at all looks at once with probability 1 - alpha, for display.
 */
#ifndef HALDANE_STATS_CONFSEQ_H
#define HALDANE_STATS_CONFSEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One look: canary and stable, k events among n requests. */
struct look_counts {
    uint64_t k_c, n_c, k_s, n_s;
};

struct confseq {
    double estimate, lower,
        upper; /* a ratio's upper end may be INFINITY, its lower end 0; estimate NAN if there is none */
};

/* Relative risk p_C / p_S, stratified by look, exact for independent requests. O(looks) per evaluation, about 100 of
 * them. */
void confseq_ratio_lr(const struct look_counts looks[], size_t n, double alpha, struct confseq *out);

/* Risk difference p_C - p_S. */
void confseq_difference_lr(const struct look_counts looks[], size_t n, double alpha, struct confseq *out);

/* Relative risk by FLIP: valid under bursts too. The upper end assumes arms that are equally noisy. Slower: for
 * reports. */
void confseq_ratio_flip(const struct look_counts looks[], size_t n, double alpha, struct confseq *out);

#endif
