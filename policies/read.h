/* From the YAML tree to the policy. Only policies/ uses this. */
#ifndef HALDANE_POLICIES_READ_H
#define HALDANE_POLICIES_READ_H

#include "policies/policy.h"
#include "policies/section.h"
#include "policies/tree.h"

/* Fills `policy` from the root of the tree; what is wrong is added to the reader's problems. */
void read_policy(struct reader *reader, const struct tree_node *root, struct policy *policy);

/* Its parts, each with the section or the list of the policy that holds it. */
void read_prometheus(struct section *top, struct policy_prometheus *prometheus);
/* Returns where the lease stands, for the check against the looks. */
struct mark read_traffic(struct section *top, struct policy_traffic *traffic);
void read_steps(struct section *top, struct policy *policy);
void read_metrics(struct section *top, struct policy *policy);

#endif
