/* The curve is a chain of straight segments in (ln b, logit S); everything is read off that chain. */
#include "stats/latency.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static bool ascending_to_infinity(const double le[], size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (!(le[i - 1] < le[i]))
            return false;
    return n >= 1 && le[n - 1] == INFINITY;
}

bool latency_shape_init(struct latency_shape *shape, const double le[], const uint64_t buckets[], size_t n)
{
    memset(shape, 0, sizeof *shape);
    if (n > LATENCY_EDGES || !ascending_to_infinity(le, n))
        return false;
    for (size_t i = 0; i < n; i++)
        shape->requests += buckets[i];
    uint64_t slower = shape->requests;
    for (size_t i = 0; i + 1 < n; i++) {
        slower -= buckets[i];
        if (le[i] <= 0)
            continue;
        shape->edge[shape->edges] = le[i];
        shape->slow[shape->edges] = shape->requests == 0 ? 0 : (double)slower / (double)shape->requests;
        shape->edges++;
    }
    return true;
}

/* The chain in use: points first..last of (ln edge, logit S), with slopes for what lies outside. */
struct chain {
    size_t points;
    double x[LATENCY_EDGES], y[LATENCY_EDGES];
    double slope_below, slope_above; /* < 0 */
};

static double slope(const struct chain *chain, size_t i)
{
    return (chain->y[i + 1] - chain->y[i]) / (chain->x[i + 1] - chain->x[i]);
}

static void chain_points(struct chain *chain, const struct latency_shape *shape)
{
    size_t first = 0, last = shape->edges;
    while (first + 1 < last && shape->slow[first + 1] >= 1)
        first++;
    while (last > first + 1 && shape->slow[last - 2] <= 0)
        last--;
    double least = 1 / (2 * (double)shape->requests);
    chain->points = 0;
    for (size_t i = first; i < last; i++) {
        double s = fmax(least, fmin(1 - least, shape->slow[i]));
        chain->x[chain->points] = log(shape->edge[i]);
        chain->y[chain->points] = log(s) - log1p(-s);
        chain->points++;
    }
}

static bool chain_init(struct chain *chain, const struct latency_shape *shape)
{
    if (shape->requests == 0)
        return false;
    chain_points(chain, shape);
    size_t below = 0, above = chain->points;
    while (below + 1 < chain->points && slope(chain, below) >= 0)
        below++;
    while (above >= 2 && slope(chain, above - 2) >= 0)
        above--;
    if (above < 2)
        return false;
    chain->slope_below = slope(chain, below);
    chain->slope_above = slope(chain, above - 2);
    return true;
}

/* logit S at ln x. */
static double logit_at(const struct chain *chain, double x)
{
    size_t last = chain->points - 1;
    if (x <= chain->x[0])
        return chain->y[0] + chain->slope_below * (x - chain->x[0]);
    if (x >= chain->x[last])
        return chain->y[last] + chain->slope_above * (x - chain->x[last]);
    size_t i = 0;
    while (x > chain->x[i + 1])
        i++;
    return chain->y[i] + slope(chain, i) * (x - chain->x[i]);
}

/* The smallest ln x with logit S <= y. */
static double x_at(const struct chain *chain, double y)
{
    size_t last = chain->points - 1;
    if (y >= chain->y[0])
        return chain->x[0] + (y - chain->y[0]) / chain->slope_below;
    if (y < chain->y[last])
        return chain->x[last] + (y - chain->y[last]) / chain->slope_above;
    size_t i = 0;
    while (chain->y[i + 1] > y)
        i++;
    return chain->x[i] + (y - chain->y[i]) / slope(chain, i);
}

/* ln S and ln F of a logit, without the cancellation of 1 - S. */
static double log_slow(double logit)
{
    return logit < 0 ? logit - log1p(exp(logit)) : -log1p(exp(-logit));
}

static double log_fast(double logit)
{
    return log_slow(-logit);
}

double latency_slow_share(const struct latency_shape *shape, double x)
{
    struct chain chain;
    if (!(x > 0) || !isfinite(x) || !chain_init(&chain, shape))
        return NAN;
    return exp(log_slow(logit_at(&chain, log(x))));
}

double latency_at_share(const struct latency_shape *shape, double share)
{
    struct chain chain;
    if (!(share > 0 && share < 1) || !chain_init(&chain, shape))
        return NAN;
    return exp(x_at(&chain, log(share) - log1p(-share)));
}

/* ln of S(b/(1+tau)) / S(b), or of the same with F, for stretch = ln(1 + tau). */
static double log_ratio(const struct chain *chain, double x, double stretch, double (*log_share)(double))
{
    return log_share(logit_at(chain, x - stretch)) - log_share(logit_at(chain, x));
}

double latency_slow_ratio(const struct latency_shape *shape, size_t i, double tau)
{
    struct chain chain;
    if (i >= shape->edges || !(tau > -1) || !isfinite(tau) || !chain_init(&chain, shape))
        return NAN;
    return exp(log_ratio(&chain, log(shape->edge[i]), log1p(tau), log_slow));
}

double latency_fast_ratio(const struct latency_shape *shape, size_t i, double tau)
{
    struct chain chain;
    if (i >= shape->edges || !(tau > -1) || !isfinite(tau) || !chain_init(&chain, shape))
        return NAN;
    return exp(-log_ratio(&chain, log(shape->edge[i]), log1p(tau), log_fast));
}

/* `direction` 1: the ratio rises with tau; -1: it falls. */
static double tau_of_ratio(const struct latency_shape *shape, size_t i, double ratio, double (*log_share)(double),
                           int direction)
{
    struct chain chain;
    if (i >= shape->edges || !(ratio >= 0) || !chain_init(&chain, shape))
        return NAN;
    const double least = -0.999, most = 1e6;
    double x = log(shape->edge[i]), target = log(ratio);
    double low = log1p(least), high = log1p(most);
    if (direction * (log_ratio(&chain, x, low, log_share) - target) >= 0)
        return least;
    if (direction * (log_ratio(&chain, x, high, log_share) - target) <= 0)
        return most;
    for (int round = 0; round < 80; round++) {
        double middle = low + (high - low) / 2;
        if (direction * (log_ratio(&chain, x, middle, log_share) - target) < 0)
            low = middle;
        else
            high = middle;
    }
    return expm1(high);
}

double latency_tau_of_slow_ratio(const struct latency_shape *shape, size_t i, double ratio)
{
    return tau_of_ratio(shape, i, ratio, log_slow, 1);
}

double latency_tau_of_fast_ratio(const struct latency_shape *shape, size_t i, double ratio)
{
    return tau_of_ratio(shape, i, ratio, log_fast, -1);
}
