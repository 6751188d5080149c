/* The evidence against a value is monotone on each side of the estimate, so each end is one root in one variable. */
#include "stats/confseq.h"

#include <float.h>
#include <math.h>

#include "stats/flip.h"
#include "stats/logmath.h"
#include "stats/lr.h"
#include "stats/mixture.h"

/* What a function of one variable is evaluated on. */
struct problem {
    const struct look_counts *looks;
    size_t n;
    double log_threshold; /* evidence at and above it refutes */
    double log_mixture;   /* confseq_ratio_lr: m */
};

typedef double (*function)(const struct problem *problem, double x);

/* The root between a and b, where f has opposite signs; Chandrupatla's choice of inverse quadratic step or halving. */
static double root(function f, const struct problem *problem, double a, double b)
{
    double fa = f(problem, a), fb = f(problem, b), t = 0.5;
    for (int round = 0; round < 200; round++) {
        double x = a + t * (b - a), fx = f(problem, x);
        bool same_side = (fx > 0) == (fa > 0);
        double c = same_side ? a : b, fc = same_side ? fa : fb;
        b = same_side ? b : a;
        fb = same_side ? fb : fa;
        a = x;
        fa = fx;
        double best = fabs(fa) < fabs(fb) ? a : b;
        double least_step = (2 * DBL_EPSILON * fabs(best) + 1e-13) / fabs(b - a);
        if (least_step > 0.5 || fa == 0 || fb == 0)
            return best;
        double xi = (a - b) / (c - b), phi = (fa - fb) / (fc - fb);
        bool smooth = phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi;
        t = smooth ? fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb) : 0.5;
        t = fmax(least_step, fmin(1 - least_step, t));
    }
    return a;
}

static bool usable(const struct look_counts *look)
{
    return look->n_c > 0 && look->n_s > 0 && look->k_c <= look->n_c && look->k_s <= look->n_s;
}

static bool begin(struct problem *problem, const struct look_counts looks[], size_t n, double alpha, double sides,
                  struct confseq *out)
{
    *out = (struct confseq){NAN, NAN, NAN};
    if (!(alpha > 0 && alpha < 1))
        return false;
    *problem = (struct problem){.looks = looks, .n = n, .log_threshold = log(sides / alpha)};
    return true;
}

static void count_events(const struct problem *problem, double *canary, double *stable)
{
    *canary = *stable = 0;
    for (size_t i = 0; i < problem->n; i++) {
        if (!usable(&problem->looks[i]))
            continue;
        *canary += (double)problem->looks[i].k_c;
        *stable += (double)problem->looks[i].k_s;
    }
}

/* ---- relative risk, LR; x = ln r ---- */

static const double far = 690; /* e^690 is still finite; stands for ln of infinity */

static double log_likelihood(const struct problem *problem, double x)
{
    double sum = 0;
    for (size_t i = 0; i < problem->n; i++) {
        const struct look_counts *look = &problem->looks[i];
        if (!usable(look))
            continue;
        double odds = x + log((double)look->n_c) - log((double)look->n_s); /* ln of pi / (1 - pi) */
        sum -= (double)look->k_c * log1p_exp(-odds) + (double)look->k_s * log1p_exp(odds);
    }
    return sum;
}

static double score(const struct problem *problem, double x)
{
    double sum = 0;
    for (size_t i = 0; i < problem->n; i++) {
        const struct look_counts *look = &problem->looks[i];
        if (!usable(look))
            continue;
        double odds = x + log((double)look->n_c) - log((double)look->n_s);
        sum += (double)look->k_c / (1 + exp(odds)) - (double)look->k_s / (1 + exp(-odds));
    }
    return sum;
}

static double refuted_lr(const struct problem *problem, double x)
{
    return problem->log_mixture - log_likelihood(problem, x) - problem->log_threshold;
}

static double log_mixture(const struct problem *problem)
{
    enum { POINTS = 49 };
    double l[POINTS];
    for (int j = 0; j < POINTS; j++)
        l[j] = log_likelihood(problem, -log(64) + j * log(64) / 24);
    return log_sum_exp(l, POINTS) - log(POINTS);
}

void confseq_ratio_lr(const struct look_counts looks[], size_t n, double alpha, struct confseq *out)
{
    struct problem problem;
    if (!begin(&problem, looks, n, alpha, 1, out))
        return;
    out->lower = 0;
    out->upper = INFINITY;
    double canary, stable;
    count_events(&problem, &canary, &stable);
    if (canary + stable <= 0)
        return;
    problem.log_mixture = log_mixture(&problem);
    double centre = canary <= 0 ? -far : stable <= 0 ? far : root(score, &problem, -far, far);
    out->estimate = canary <= 0 ? 0 : stable <= 0 ? INFINITY : exp(centre);
    if (canary > 0 && refuted_lr(&problem, -far) > 0)
        out->lower = exp(root(refuted_lr, &problem, -far, centre));
    if (stable > 0 && refuted_lr(&problem, far) > 0)
        out->upper = exp(root(refuted_lr, &problem, centre, far));
}

/* ---- risk difference; x = D ---- */

enum { UP_BETS = 11 };
static const double up_bets[UP_BETS] = {1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 6};

static double log_e_difference(const struct problem *problem, double difference, double bet)
{
    double sum = 0;
    for (size_t i = 0; i < problem->n; i++) {
        const struct look_counts *look = &problem->looks[i];
        if (!usable(look))
            continue;
        double n_c = (double)look->n_c, share = n_c / (double)look->n_s;
        double a_less_1 = fmin(bet - 1, 0.999 / share); /* so that B stays above 0 */
        sum += (double)look->k_c * log1p(a_less_1) + (double)look->k_s * log1p(-share * a_less_1) -
               n_c * difference * a_less_1;
    }
    return sum;
}

static double refuted_difference(const struct problem *problem, double difference, const double bets[], int count)
{
    double sum = -INFINITY;
    for (int j = 0; j < count; j++)
        sum = log_add_exp(sum, log_e_difference(problem, difference, bets[j]));
    return sum - log(count) - problem->log_threshold;
}

static double too_small(const struct problem *problem, double difference)
{
    return refuted_difference(problem, difference, up_bets, UP_BETS);
}

static double too_large(const struct problem *problem, double difference)
{
    return refuted_difference(problem, difference, lr_ni_bets, LR_NI_BETS);
}

void confseq_difference_lr(const struct look_counts looks[], size_t n, double alpha, struct confseq *out)
{
    struct problem problem;
    if (!begin(&problem, looks, n, alpha, 2, out))
        return;
    double excess = 0, exposed = 0;
    for (size_t i = 0; i < n; i++) {
        if (!usable(&looks[i]))
            continue;
        double n_c = (double)looks[i].n_c, n_s = (double)looks[i].n_s;
        excess += (double)looks[i].k_c - n_c * (double)looks[i].k_s / n_s;
        exposed += n_c;
    }
    out->lower = -1;
    out->upper = 1;
    if (exposed <= 0)
        return;
    out->estimate = excess / exposed;
    if (too_small(&problem, -1) > 0)
        out->lower = root(too_small, &problem, -1, out->estimate);
    if (too_large(&problem, 1) > 0)
        out->upper = root(too_large, &problem, out->estimate, 1);
}

/* ---- relative risk, FLIP; x = ln rho ---- */

/* ln E, without restarts, of "X is more than rho times as bad as Y". Kept finite for the root finder. */
static double log_e_flip(const struct problem *problem, bool canary_is_x, double log_rho)
{
    struct mixture mixture;
    mixture_init(&mixture, FLIP_ELLS, RESTART_NONE, 0);
    struct flip_null null = {.form = FLIP_ABORT, .rho = exp(log_rho)};
    for (size_t i = 0; i < problem->n; i++) {
        const struct look_counts *look = &problem->looks[i];
        struct flip_counts counts = canary_is_x ? (struct flip_counts){look->k_c, look->n_c, look->k_s, look->n_s}
                                                : (struct flip_counts){look->k_s, look->n_s, look->k_c, look->n_c};
        double log_e[FLIP_ELLS];
        flip_log_e_ells(&counts, &null, log_e); /* zeros outside of its domain: no evidence */
        mixture_look(&mixture, log_e);
    }
    return fmax(-100, fmin(100, mixture_log_e(&mixture)));
}

static double too_low(const struct problem *problem, double x)
{
    return log_e_flip(problem, true, x) - problem->log_threshold;
}

static double too_high(const struct problem *problem, double x)
{
    return log_e_flip(problem, false, -x) - problem->log_threshold;
}

static double balance(const struct problem *problem, double x)
{
    return log_e_flip(problem, true, x) - log_e_flip(problem, false, -x);
}

/* Both run over ln 0.01..ln 100; where the sign does not change, the answer is at or beyond an end. */
static double flip_estimate(const struct problem *problem, double low, double high)
{
    double canary, stable;
    count_events(problem, &canary, &stable);
    if (canary + stable <= 0)
        return NAN;
    if (balance(problem, low) <= 0)
        return canary <= 0 ? 0 : exp(low);
    if (balance(problem, high) >= 0)
        return stable <= 0 ? INFINITY : exp(high);
    return exp(root(balance, problem, low, high));
}

void confseq_ratio_flip(const struct look_counts looks[], size_t n, double alpha, struct confseq *out)
{
    struct problem problem;
    if (!begin(&problem, looks, n, alpha, 2, out))
        return;
    const double low = log(0.01), high = log(100);
    double at_low = too_low(&problem, low), at_high = too_high(&problem, high);
    out->lower = at_low <= 0 ? 0 : too_low(&problem, high) > 0 ? exp(high) : exp(root(too_low, &problem, low, high));
    out->upper = at_high <= 0                  ? INFINITY
                 : too_high(&problem, low) > 0 ? exp(low)
                                               : exp(root(too_high, &problem, low, high));
    out->estimate = flip_estimate(&problem, low, high);
    if (out->lower > out->upper)
        out->lower = out->upper = out->estimate;
}
