/* What simulated rollouts came to, for a person. Pure functions from the model to text. */
#ifndef HALDANE_REPORT_SIMULATION_H
#define HALDANE_REPORT_SIMULATION_H

#include "analyzer/model/format.h"
#include "analyzer/model/simulation.h"

#include <stdbool.h>

/* The caller frees the text. */
char *simulation_text(const struct simulation *simulation); /* for a terminal, at most 100 columns, no colour */
char *
simulation_html(const struct simulation *simulation); /* one file: inline CSS and SVG, no script, dark and light */

/*
 * What both say. A share with its standard error: "86.2 % ±1.7"; where none or all did it, with the end of its 95 %
 * interval: "0 % (< 0.92)". A spread of times: "12m15s / 20m", median and 90 %; "–" for one that is not reached.
 */
const char *simulation_share_text(uint64_t count, uint64_t runs, char text[FORMAT_TEXT]);
const char *simulation_times_text(const struct simulation_spread *spread, char text[FORMAT_TEXT]);

/* Whether all scenarios have the same requests; and these: "100/s, 0.5 % of them fail on stable". */
bool simulation_same_traffic(const struct simulation *simulation);
const char *simulation_traffic_text(const struct simulation_result *result, char text[FORMAT_TEXT]);

/* Whether a healthy canary is aborted too often, by the 95 % interval of the worst scenario. */
enum simulation_finding { SIMULATION_KEPT, SIMULATION_BROKEN, SIMULATION_UNSURE };

/* The sentence that answers the question; the caller frees it. */
char *simulation_summary(const struct simulation *simulation, enum simulation_finding *finding);

#endif
