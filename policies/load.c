/*
 * A policy is loaded in three passes: text to tree (policies/tree.h), tree to policy with all checks (policies/read.h),
 * and the digest that tells under which policy a verdict was given.
 */
#include "policies/load.h"

#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/problems.h"
#include "policies/read.h"
#include "policies/tree.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_FILE = 1 << 20 };

/* SHA-256 over the text and, for each setting, a zero byte and NAME=VALUE. */
static bool digest(struct policy *policy, size_t length, struct error *err)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok =
        context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) && EVP_DigestUpdate(context, policy->source, length);
    for (size_t i = 0; i < policy->setting_count && ok; i++) {
        const struct policy_setting *setting = &policy->settings[i];
        ok = EVP_DigestUpdate(context, "", 1) && EVP_DigestUpdate(context, setting->name, strlen(setting->name)) &&
             EVP_DigestUpdate(context, "=", 1) && EVP_DigestUpdate(context, setting->value, strlen(setting->value));
    }
    ok = ok && EVP_DigestFinal_ex(context, sum, &size);
    EVP_MD_CTX_free(context);
    if (!ok)
        return error_set(err, ERROR_SOFTWARE,
                         "libcrypto cannot compute SHA-256 of the policy; check its configuration");
    assert(size == 32);
    for (size_t i = 0; i < size; i++)
        snprintf(policy->sha256 + 2 * i, 3, "%02x", sum[i]);
    return true;
}

static struct policy *parse(const char *text, size_t length, struct reader *reader)
{
    if (length > LARGEST_FILE) {
        problem_add(reader->problems, (struct mark){1, 1},
                    "the policy is larger than 1 MiB; a policy has a few kilobytes: is this the right file?");
        return NULL;
    }
    struct tree tree = {0};
    struct policy *policy = NULL;
    if (tree_parse(&tree, text, length, reader->problems)) {
        policy = mem_alloc(1, sizeof *policy);
        policy->source = mem_strndup(text, length);
        read_policy(reader, tree.root, policy);
        settings_give(&reader->settings, policy);
    }
    tree_free(&tree);
    return policy;
}

struct policy *policy_load_text(const char *text, size_t length, const char *name,
                                const struct policy_setting *settings, size_t setting_count, char *const *environment,
                                struct policy_problems *problems, struct error *err)
{
    struct policy_problems own = {0};
    struct policy_problems *found = problems ? problems : &own;
    *found = (struct policy_problems){0};
    struct reader reader = {
        .problems = found,
        .settings = {.given = settings, .given_count = setting_count, .environment = environment},
    };
    struct policy *policy = parse(text, length, &reader);
    problems_finish(found);
    if (found->count > 0)
        error_set(err, ERROR_DATA, "%s:%zu:%zu: %s", name, found->items[0].line, found->items[0].column,
                  found->items[0].text);
    if (found->count > 0 || !digest(policy, length, err)) {
        policy_free(policy);
        policy = NULL;
    }
    policy_problems_free(&own);
    return policy;
}

/* One byte more than is allowed is enough to see that the file is too large. */
static bool read_all(FILE *file, struct strbuf *text)
{
    char chunk[8192];
    size_t n;
    while (text->length <= LARGEST_FILE && (n = fread(chunk, 1, sizeof chunk, file)) > 0)
        strbuf_add(text, chunk, n);
    return !ferror(file);
}

struct policy *policy_load_file(const char *path, const struct policy_setting *settings, size_t setting_count,
                                char *const *environment, struct policy_problems *problems, struct error *err)
{
    bool standard_input = strcmp(path, "-") == 0;
    const char *name = standard_input ? "standard input" : path;
    if (problems)
        *problems = (struct policy_problems){0};
    FILE *file = standard_input ? stdin : fopen(path, "rbe");
    struct strbuf text = {0};
    bool ok = file && read_all(file, &text);
    if (!ok)
        error_set(err, ERROR_NO_INPUT, "%s: %s; name a policy that can be read", name, strerror(errno));
    if (file && !standard_input)
        fclose(file);
    struct policy *policy = ok ? policy_load_text(text.text ? text.text : "", text.length, name, settings,
                                                  setting_count, environment, problems, err)
                               : NULL;
    strbuf_free(&text);
    return policy;
}

static void free_prometheus(struct policy_prometheus *p)
{
    for (size_t i = 0; i < p->header_count; i++) {
        free(p->headers[i].name);
        free(p->headers[i].value);
    }
    free(p->headers);
    free(p->url);
    free(p->username);
    free(p->password_file);
    free(p->bearer_token_file);
    free(p->ca_file);
    free(p->cert_file);
    free(p->key_file);
    free(p->server_name);
}

static void free_command(struct policy_command *command)
{
    for (size_t i = 0; i < command->count; i++)
        free(command->words[i]);
    free(command->words);
}

static void free_balancer(struct policy_balancer *balancer)
{
    for (int track = 0; track < TRACKS; track++) {
        for (size_t i = 0; i < balancer->server_count[track]; i++)
            free(balancer->servers[track][i]);
        free(balancer->servers[track]);
    }
    free(balancer->socket);
    free(balancer->master);
    free(balancer->backend);
    free(balancer->state_file);
    free(balancer->map);
    free(balancer->flags);
    free(balancer->split);
    free(balancer->key);
    free(balancer->probe);
    free_command(&balancer->test);
    free_command(&balancer->reload);
    free_command(&balancer->command);
}

static void free_traffic(struct policy_traffic *traffic)
{
    for (size_t i = 0; i < traffic->balancer_count; i++)
        free_balancer(&traffic->balancers[i]);
    free(traffic->balancers);
}

static void free_kayenta(struct policy_kayenta *kayenta)
{
    for (size_t i = 0; i < kayenta->group_count; i++)
        free(kayenta->groups[i].name);
    free(kayenta->groups);
}

static void free_guardrail(struct policy_guardrail *guardrail)
{
    free(guardrail->name);
    free(guardrail->failed);
    free(guardrail->total);
    free(guardrail->query);
}

static void free_metric(struct policy_metric *metric)
{
    for (size_t i = 0; i < metric->kayenta.group_count; i++)
        free(metric->kayenta.groups[i]);
    free(metric->kayenta.groups);
    free(metric->query);
    free(metric->name);
    free(metric->total);
    free(metric->failed);
    free(metric->histogram);
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    free(policy->service);
    free_prometheus(&policy->prometheus);
    for (int track = 0; track < TRACKS; track++)
        free(policy->matchers[track]);
    free_traffic(&policy->traffic);
    free(policy->steps);
    for (size_t i = 0; i < policy->metric_count; i++)
        free_metric(&policy->metrics[i]);
    free(policy->metrics);
    for (size_t i = 0; i < policy->guardrail_count; i++)
        free_guardrail(&policy->guardrails[i]);
    free(policy->guardrails);
    free_kayenta(&policy->kayenta);
    free(policy->source);
    for (size_t i = 0; i < policy->setting_count; i++) {
        free(policy->settings[i].name);
        free(policy->settings[i].value);
    }
    free(policy->settings);
    free(policy);
}
