/* From the YAML tree to the policy. Only policies/ uses this. */
#ifndef HALDANE_POLICIES_READ_H
#define HALDANE_POLICIES_READ_H

#include "policies/policy.h"
#include "policies/section.h"
#include "policies/tree.h"

#include <stdbool.h>

/* Fills `policy` from the root of the tree; what is wrong is added to the reader's problems. */
void read_policy(struct reader *reader, const struct tree_node *root, struct policy *policy);

/* Its parts, each with the section or the list of the policy that holds it. */
void read_prometheus(struct section *top, struct policy_prometheus *prometheus);
/* Returns where the lease stands, for the check against the looks. */
struct mark read_traffic(struct section *top, struct policy_traffic *traffic);
/* The keys of one balancer, in the section that holds them. Those of no driver, or of another one, are refused with
 * `why`; if the driver is not known, nothing is said of them. */
void read_balancer(struct section *s, enum driver_kind driver, struct policy_balancer *balancer);
void refuse_balancer_keys(struct section *s, const char *why);
void refuse_foreign_keys(struct section *s, const char *why);
void pass_balancer_keys(struct section *s);
void read_steps(struct section *top, struct policy *policy);
void read_metrics(struct section *top, struct policy *policy);
/* These look at the metrics and come after them. */
void read_crash(struct section *top, struct policy *policy);
void read_guardrails(struct section *top, struct policy *policy);
void read_kayenta(struct section *top, struct policy *policy);

/* The keys of `type: gauge` in the section of a metric, and the same keys refused in one of another type. */
void read_gauge(struct section *metric, struct policy_metric *m);
void refuse_gauge_keys(struct section *metric);

/* What metrics, their groups and guardrails share. */
bool is_plain_name(const char *text);
char *read_name(struct section *s, const char *needed);
/* PromQL of one of the kinds in policies/selector.h; NULL if absent or no text. The caller frees it. */
char *read_promql(struct section *s, const char *key, const char *needed, char *(*problem_of)(const char *text));

#endif
