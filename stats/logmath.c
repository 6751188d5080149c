/* Every sum takes out its largest term first; what is left lies between 0 and 1. */
#include "stats/logmath.h"

#include <math.h>

double log1p_exp(double x)
{
    if (x > 36) /* e^-x is below the last bit of x */
        return x;
    return log1p(exp(x));
}

double log_add_exp(double a, double b)
{
    if (isnan(a) || isnan(b))
        return NAN;
    double high = fmax(a, b), low = fmin(a, b);
    if (isinf(high)) /* also keeps -INFINITY - -INFINITY away */
        return high;
    return high + log1p(exp(low - high));
}

double log_sum_exp(const double values[], size_t n)
{
    double high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (isnan(values[i]))
            return NAN;
        high = fmax(high, values[i]);
    }
    if (isinf(high))
        return high;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(values[i] - high);
    return high + log(sum);
}

double log_weighted_average(const double log_e[], const double weights[], size_t n)
{
    double sum = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (isnan(weights[i]))
            return NAN;
        if (weights[i] > 0)
            sum = log_add_exp(sum, log(weights[i]) + log_e[i]);
    }
    return sum;
}
