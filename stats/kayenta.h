/*
 * Kayenta's judge, as Kayenta computes it, for those who come from there or who want both verdicts side by side. For
 * one metric: its points of the experiment (the canary) against those of the control (the baseline), classified by the
 * Mann-Whitney interval of their shift; for all metrics together: a score from 0 to 100.
 *
 * What is known of it, and is reproduced on purpose:
 *  - An interval at 98 % is High if its lower end is above a quarter of the estimated shift. That is a share of the
 *    shift, not of the baseline: it is no margin of practical size. `allowed_increase` is one.
 *  - The interval's ends are found by Brent's method to an absolute 1e-4. A metric whose values are of that size or
 *    smaller (seconds, shares) is judged by the residue of the search, and its verdict changes with its unit.
 *  - The points are taken to be independent, which the points of one instance over time are not.
 * Where Kayenta adds noise, because each arm is constant, nothing is added here: the shift is then known, and verdicts
 * are the same in each run. One constant point against another one has no interval and is an Error.
 *
 * Nothing is allocated and nothing of the names is copied. Source: Kayenta's NetflixACAJudge-v1.0 (spinnaker/kayenta)
 * and, for the interval, R's wilcox.test(x, y, exact = FALSE, conf.int = TRUE).
 */
#ifndef HALDANE_STATS_KAYENTA_H
#define HALDANE_STATS_KAYENTA_H

#include <stdbool.h>
#include <stddef.h>

#include "stats/ranks.h"

enum kayenta_nan {
    KAYENTA_NAN_REMOVE,  /* points that are NaN are dropped; an arm without points is missing data */
    KAYENTA_NAN_REPLACE, /* they are taken for 0; an arm without points passes */
};
enum kayenta_outliers { KAYENTA_OUTLIERS_KEEP, KAYENTA_OUTLIERS_REMOVE };
enum kayenta_measure {
    KAYENTA_MEAN_RATIO, /* mean of the experiment / mean of the control; NAN if either is 0 */
    KAYENTA_CLES,       /* the common language effect size, P(experiment > control) + P(equal)/2: 0..1 */
};
enum kayenta_direction { KAYENTA_EITHER, KAYENTA_INCREASE, KAYENTA_DECREASE };

/* One metric's settings, by Kayenta's own names. */
struct kayenta_settings {
    enum kayenta_direction direction; /* which way is bad */
    enum kayenta_nan nan_strategy;
    bool must_have_data; /* missing data fails the metric: NodataFailMetric */
    bool critical;       /* a critical failure, or missing data, fails the whole canary */
    enum kayenta_outliers outliers;
    double outlier_factor; /* > 0; see kayenta_classify() */
    enum kayenta_measure measure;
    /* High needs an effect of at least allowed_increase, Low one of at most allowed_decrease. */
    double allowed_increase, allowed_decrease;
    /* The same for a failure of a critical metric to be critical. */
    double critical_increase, critical_decrease;
};

/* Kayenta's defaults: either, remove, keep with factor 3, no demands; all thresholds 1, or 0.5 for CLES. */
struct kayenta_settings kayenta_defaults(enum kayenta_measure measure);

enum kayenta_class {
    KAYENTA_PASS,
    KAYENTA_HIGH,
    KAYENTA_LOW,
    KAYENTA_NODATA,
    KAYENTA_NODATA_FAIL_METRIC,
    KAYENTA_ERROR,
};

/* "Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error". */
const char *kayenta_class_name(enum kayenta_class class);

struct kayenta_interval {
    double lower, upper, estimate; /* of the shift experiment - control, in the metric's unit */
};

/*
 * Kayenta's interval of x - y: with z(s) = (W(s) - mn/2 - sign(W(s) - mn/2)/2) / sigma(s) for x shifted by s, ties
 * corrected, the places where z falls through z_{(1 + confidence)/2}, -z_{(1 + confidence)/2} and 0, each searched by
 * Brent's method between min x - max y and max x - min y; the end of that range where z does not get so far. z is a
 * falling step function; the ends are right to about 1e-4, absolute. For ends that are right to the last digits see
 * ranks_hodges_lehmann(). O((m + n) steps), a few dozen steps. False if everything is tied at a place that is tried: z
 * is then 0/0. `confidence` lies inside of (0, 1). Uses no `work`.
 *
 * Source: Brent 1973, Algorithms for Minimization without Derivatives, ch. 4.
 */
bool kayenta_interval(const struct ranks *ranks, double confidence, struct kayenta_interval *interval);

struct kayenta_result {
    enum kayenta_class class;
    bool critical;                    /* this classification alone fails the canary */
    const char *reason;               /* why, without the metric's name; NULL if Kayenta gives none. Not to be freed */
    double deviation;                 /* the mean ratio, for reports; 1 where nothing was compared; may be NAN */
    double effect;                    /* in the measure of the settings; NAN where it is not defined or not computed */
    struct kayenta_interval interval; /* at 98 %; NAN where nothing was compared */
    size_t experiment, control;       /* points that were compared */
};

/* How many doubles of scratch kayenta_classify() wants. */
size_t kayenta_scratch(size_t m, size_t n);

/*
 * Classifies one metric from m points of the experiment and n of the control, in any order, NaN allowed, m, n >= 0 and
 * at most RANKS_POINTS. First NaN, then outliers: points beyond the quartiles by more than outlier_factor times their
 * distance, and beyond the 1st and 99th percentile, too, are dropped, in each arm by itself (quantiles as R's type 7).
 * Then:
 *   an arm is empty          Nodata, critical if the metric is; NodataFailMetric if it must have data and is not
 *                            critical; Pass if NaN are replaced
 *   the same points          Pass
 *   High                     lower > |estimate|/4, and effect >= allowed_increase or effect NAN, unless only a decrease
 *                            is bad
 *   Low                      upper < -|estimate|/4, and effect <= allowed_decrease or effect NAN, unless only an
 *                            increase is bad
 *   else                     Pass
 *   not computable           Error: a point is infinite, or one point stands against one other
 * High and Low are critical if the metric is and the effect reaches its critical threshold or is NAN.
 */
void kayenta_classify(const double experiment[], size_t m, const double control[], size_t n,
                      const struct kayenta_settings *settings, double scratch[], struct kayenta_result *result);

/* A classified metric for the score. A group that is named twice counts twice. */
struct kayenta_metric {
    const char *const *groups;
    size_t n_groups;
    enum kayenta_class class;
    bool critical; /* of the result, not of the settings */
};

struct kayenta_weight {
    const char *group;
    double weight; /* in percent */
};

enum kayenta_verdict {
    KAYENTA_SCORED,
    KAYENTA_CRITICAL_FAILURE, /* a critical metric did not pass: the score is 0 */
    KAYENTA_TOO_MANY_NODATA,  /* half of the metrics or more are Nodata: the score is 0 */
};

struct kayenta_score {
    double score; /* two decimals, halves rounded away from 0; 0..100 if the weights are >= 0 and add up to 100 */
    enum kayenta_verdict verdict;
    size_t culprit; /* the first metric that failed critically; else n */
};

/*
 * Pass / (Pass + High + Low + NodataFailMetric) of group's metrics, in percent; NAN if it has none of these: such a
 * group counts as 100 in the score.
 */
double kayenta_group_score(const char *group, const struct kayenta_metric metrics[], size_t n);

/*
 * The sum over the groups of weight/100 * group score. Groups without a weight of their own share evenly what all the
 * weights, used or not, leave of 100. Groups are compared by name, each with each: O(G^2) for G mentions of a group. No
 * group name twice among the weights. Without metrics the score is 0.
 */
struct kayenta_score kayenta_score(const struct kayenta_metric metrics[], size_t n,
                                   const struct kayenta_weight weights[], size_t n_weights);

#endif
