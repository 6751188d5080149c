/*
 * The beta distribution and the binomial tails in it, as natural logarithms. Internal to stats/: what betabinomial and
 * exact compute with.
 *
 * Why not GSL's gsl_cdf_beta_P and _Q: they give NAN from some 10^7 counts on and 0 in tails below 10^-308, and a
 * log-beta-function of terms near 10^10 has lost six digits. Here the logarithm is good to 1e-10 of itself, or to 1e-10
 * where it is near 0, for parameters up to 2^41.
 *
 * Sources: the deviance form of the density: Loader 2000, "Fast and accurate computation of binomial probabilities";
 * the continued fraction: Didonato & Morris 1992 (ACM TOMS 18:360); its evaluation: Thompson & Barnett 1986 (J. Comput.
 * Phys. 64:490).
 */
#ifndef HALDANE_STATS_BETA_H
#define HALDANE_STATS_BETA_H

/*
 * ln of x^a (1-x)^b / B(a, b), which is x (1-x) times the density of Beta(a, b) at x; -INFINITY at x = 0 and x = 1.
 * Domain: a > 0, b > 0, 0 <= x <= 1.
 */
double log_beta_kernel(double a, double b, double x);

/*
 * ln P(X <= x) and ln P(X > x) for X of law Beta(a, b). Domain as above; -INFINITY is ln 0. The lower one is ln P(K >=
 * k) for K of law Binomial(n, x), with a = k, b = n - k + 1. Of the order of sqrt(max(a, b)) steps near the mean, a few
 * far from it.
 */
double log_beta_lower(double a, double b, double x);
double log_beta_upper(double a, double b, double x);

/* ln(1 - e^x) for x <= 0, accurate at both ends. */
double log1m_exp(double x);

#endif
