/*
 * Large terms never meet: a ln x + b ln(1-x) - ln B(a, b) is written as two deviances, each >= 0 and each formed from a
 * small difference, and corrections below 1. Of the two tails the smaller one is summed, the other is 1 less that.
 */
#include "stats/beta.h"

#include <float.h>
#include <math.h>

#include <gsl/gsl_sf_gamma.h>
#include <gsl/gsl_sf_log.h>

double log1m_exp(double x)
{
    return x > -M_LN2 ? log(-expm1(x)) : log1p(-exp(x));
}

/* a ln(a/mean) + mean - a, a > 0, mean > 0 */
static double deviance(double a, double mean)
{
    double excess = (mean - a) / a;
    if (fabs(excess) < 0.9)
        return -a * gsl_sf_log_1plusx_mx(excess);
    return a * log(a / mean) + mean - a;
}

/* ln Gamma(a) - [(a - 1/2) ln a - a + ln(2 pi)/2] */
static double stirling_rest(double a)
{
    return log(gsl_sf_gammastar(a));
}

/* `y` is 1 - x; it comes along because the caller may know it with more digits. */
static double kernel(double a, double b, double x, double y)
{
    if (x <= 0 || y <= 0)
        return -INFINITY;
    double n = a + b;
    double rest = stirling_rest(n) - stirling_rest(a) - stirling_rest(b);
    return (log(a) - log(n) + log(b) - log(2 * M_PI)) / 2 + rest - deviance(a, n * x) - deviance(b, n * y);
}

double log_beta_kernel(double a, double b, double x)
{
    return kernel(a, b, x, 1 - x);
}

/*
 * P(X <= x) = kernel / F for x below the mean: F = b_0 + a_1/(b_1 + a_2/(b_2 + ...)), by the modified Lentz method. Its
 * b_m are sums of positive terms, also where y is tiny, so no digits of y are lost.
 */
static double fraction(double a, double b, double x, double y)
{
    double above = a * y - b * x + 1, value = a * above / (a + 1), c = value, d = 0, factor = 0;
    for (double m = 1; fabs(factor - 1) > 4 * DBL_EPSILON; m++) {
        double s = a + 2 * m - 1, w = m * (b - m) * x / s;
        double numerator = w * (a + m - 1) * (a + b + m - 1) * x / s;
        double denominator = m + w + (a + m) * (above + m * (1 + y)) / (s + 2);
        d = 1 / (denominator + numerator * d);
        c = denominator + numerator / c;
        factor = c * d;
        value *= factor;
    }
    return value;
}

static double log_tail(double a, double b, double x, double y)
{
    if (a * y >= b * x)
        return fmin(0, kernel(a, b, x, y) - log(fraction(a, b, x, y)));
    return log1m_exp(fmin(0, kernel(b, a, y, x) - log(fraction(b, a, y, x))));
}

double log_beta_lower(double a, double b, double x)
{
    return log_tail(a, b, x, 1 - x);
}

double log_beta_upper(double a, double b, double x)
{
    return log_tail(b, a, 1 - x, x);
}
