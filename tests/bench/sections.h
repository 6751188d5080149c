/* The tables of the benchmark. Each section computes the rows that are wanted, prints them and holds them to limits. */
#ifndef HALDANE_BENCH_SECTIONS_H
#define HALDANE_BENCH_SECTIONS_H

#include "tests/bench/sheet.h"

/* fixed.c: haldane and its peers on one schedule */
void section_false_aborts(struct sheet *sheet);
void section_gauges(struct sheet *sheet);
void section_power(struct sheet *sheet);

/* rollouts.c: the evidence moves the traffic; haldane alone */
void section_rollouts(struct sheet *sheet);
void section_margin(struct sheet *sheet);
void section_exposure(struct sheet *sheet);

#endif
