/* haldane report: what happened and why, as a file for a person or a program. */
#include "analyzer/cli/cli.h"

#include "analyzer/judge/judge.h"
#include "analyzer/model/format.h"
#include "analyzer/report/report.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct material {
    struct rollout rollout;
    struct policy *policy;
    struct audit_entry *audit;
    size_t audit_count;
    struct verdict **verdicts;
    size_t verdict_count;
};

static void material_free(struct material *material)
{
    rollout_clear(&material->rollout);
    policy_free(material->policy);
    audit_entries_free(material->audit, material->audit_count);
    for (size_t v = 0; v < material->verdict_count; v++)
        verdict_free(material->verdicts[v]);
    free(material->verdicts);
}

static bool add_verdict(struct material *material, const char *text, size_t length, struct error *err)
{
    struct verdict *verdict = verdict_from_json(text, length, err);
    if (!verdict)
        return false;
    material->verdicts = mem_resize(material->verdicts, material->verdict_count + 1, sizeof(struct verdict *));
    material->verdicts[material->verdict_count++] = verdict;
    return true;
}

/* A file of one verdict, or of one a line as `haldane replay` writes it. */
static bool read_verdicts(const char *path, struct material *material, struct error *err)
{
    size_t length;
    char *text = read_file(path, &length, err);
    if (!text)
        return false;
    bool ok = true;
    size_t line = 1;
    for (char *p = text; ok && p < text + length; line++) {
        size_t n = strcspn(p, "\n");
        if (n > 0 && !add_verdict(material, p, n, err)) {
            error_prefix(err, "%s:%zu", path, line);
            ok = false;
        }
        p += n + 1;
    }
    free(text);
    if (ok && material->verdict_count == 0)
        return error_set(err, ERROR_DATA, "%s holds no verdict; give one as `haldane judge --format json` writes it",
                         path);
    return ok;
}

static bool load_verdicts(struct store *store, const char *id, struct material *material, struct error *err)
{
    char **texts = NULL;
    size_t count = 0;
    if (!store_load_verdicts(store, id, false, &texts, &count, err))
        return false;
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        ok = ok && add_verdict(material, texts[i], strlen(texts[i]), err);
        free(texts[i]);
    }
    free(texts);
    return ok;
}

/* What was said when it was decided stays said; only the intervals beside it are the robust ones. */
static void keep_sentences(struct verdict *said, struct verdict *again)
{
    char *reason = again->reason;
    again->reason = said->reason;
    said->reason = reason;
    for (size_t m = 0; m < again->metric_count && m < said->metric_count; m++) {
        reason = again->metrics[m].reason;
        again->metrics[m].reason = said->metrics[m].reason;
        said->metrics[m].reason = reason;
    }
}

/* The last verdict again, with intervals that hold under bursts too: worth their time in a report, not at every look.
 */
static void judge_again(struct material *material, const struct evidence *evidence)
{
    struct judge *judge = judge_new(material->policy);
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    uint64_t folded = 0;
    uint64_t last = material->verdict_count ? material->verdicts[material->verdict_count - 1]->look : 0;
    while (folded < last && evidence_next_look(evidence, &after_ms, &look)) {
        judge_observe(judge, evidence, &look);
        folded += look.weight_bp > 0;
    }
    look_free(&look);
    struct verdict *verdict = judge_verdict(judge, material->rollout.id, EFFECTS_ROBUST);
    judge_free(judge);
    if (material->verdict_count) {
        keep_sentences(material->verdicts[material->verdict_count - 1], verdict);
        verdict_free(material->verdicts[material->verdict_count - 1]);
        material->verdicts[material->verdict_count - 1] = verdict;
        return;
    }
    material->verdicts = mem_alloc(1, sizeof(struct verdict *));
    material->verdicts[material->verdict_count++] = verdict;
}

static void replace_text(char **text, const char *with)
{
    free(*text);
    *text = mem_strdup(with);
}

/* Where looks were removed nobody shall read that there were none. */
static void say_pruned(const struct rollout *rollout, struct verdict *verdict)
{
    char time[FORMAT_TEXT];
    free(verdict->reason);
    verdict->reason = mem_printf("evidence and verdicts were removed at %s, after the policy's retention",
                                 format_time(rollout->pruned_ms, time));
    for (size_t m = 0; m < verdict->metric_count; m++)
        replace_text(&verdict->metrics[m].reason, "its counts were removed");
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        replace_text(&verdict->guardrails[g].reason, "its counts were removed");
}

static bool load_rollout(struct store *store, const char *id, struct material *material, struct error *err)
{
    if (!store_load_rollout(store, id, &material->rollout, err) ||
        !(material->policy = engine_stored_policy(store, id, err)) || !load_verdicts(store, id, material, err) ||
        !store_load_audit(store, id, &material->audit, &material->audit_count, err))
        return false;
    struct evidence *evidence = store_load_evidence(store, id, material->policy->look_ms, err);
    if (!evidence)
        return false;
    judge_again(material, evidence);
    evidence_free(evidence);
    if (material->rollout.pruned_ms)
        say_pruned(&material->rollout, material->verdicts[material->verdict_count - 1]);
    return true;
}

static char *render(const struct options *options, const struct material *material, bool of_rollout)
{
    struct report report = {.rollout = of_rollout ? &material->rollout : NULL,
                            .verdicts = (const struct verdict *const *)material->verdicts,
                            .verdict_count = material->verdict_count,
                            .audit = material->audit,
                            .audit_count = material->audit_count,
                            .policy_source = material->policy ? material->policy->source : NULL,
                            .policy = material->policy};
    switch (options->format) {
    case FORMAT_HTML:
        return report_html(&report);
    case FORMAT_MARKDOWN:
        return report_markdown(&report);
    case FORMAT_JSON:
        return report_json(&report);
    default:
        return report_text(&report);
    }
}

static bool has_evidence(struct store *store, const char *id, struct error *err)
{
    struct rollout rollout;
    if (!store_load_rollout(store, id, &rollout, err))
        return false;
    int64_t pruned_ms = rollout.pruned_ms;
    rollout_clear(&rollout);
    char time[FORMAT_TEXT];
    return !pruned_ms || error_set(err, ERROR_NO_INPUT,
                                   "the evidence of rollout %s was removed at %s, after its policy's retention; a "
                                   "backup of the store from before has it",
                                   id, format_time(pruned_ms, time));
}

static char *evidence_text(struct store *store, const char *id, struct error *err)
{
    if (!has_evidence(store, id, err))
        return NULL;
    struct policy *policy = engine_stored_policy(store, id, err);
    struct evidence *evidence = policy ? store_load_evidence(store, id, policy->look_ms, err) : NULL;
    char *text = evidence ? evidence_to_json(evidence) : NULL;
    evidence_free(evidence);
    policy_free(policy);
    return text;
}

static char *report_of_store(const struct options *options, const char *name, struct error *err)
{
    struct store *store = open_store_to_read(options, err);
    if (!store && err->code == ERROR_NO_INPUT)
        error_prefix(err, "there is no rollout %s", name);
    char *id = store ? rollout_id_or_last(store, name, err) : NULL;
    char *text = NULL;
    struct material material = {0};
    if (id && options->as_evidence)
        text = evidence_text(store, id, err);
    else if (id && load_rollout(store, id, &material, err))
        text = render(options, &material, true);
    material_free(&material);
    free(id);
    store_close(store);
    return text;
}

static char *report_of_file(const struct options *options, const char *path, struct error *err)
{
    struct material material = {0};
    char *text = read_verdicts(path, &material, err) ? render(options, &material, false) : NULL;
    material_free(&material);
    return text;
}

/* A service may have a folder of its name. */
static bool is_file(const char *name)
{
    struct stat st;
    return access(name, R_OK) == 0 && stat(name, &st) == 0 && !S_ISDIR(st.st_mode);
}

static int run(const struct options *options)
{
    struct error err = {0};
    const char *what = options->arguments[0];
    bool file = strcmp(what, "-") == 0 || strchr(what, '/') || is_file(what);
    char *text =
        file && !options->as_evidence ? report_of_file(options, what, &err) : report_of_store(options, what, &err);
    bool ok = text && write_output(options->output, text, &err);
    free(text);
    return ok ? 0 : fail(&err);
}

const struct command command_report = {
    .name = "report",
    .summary = "what happened and why: text, html, md, json, or the evidence",
    .page = "Usage: haldane report ID|VERDICT.json [--format text|html|md|json] [-o FILE] [--db FILE]\n"
            "       haldane report ID --evidence [-o FILE] [--db FILE]\n\n"
            "The standalone report of a rollout, or of a file with verdicts as `judge` and `replay` write them with\n"
            "--format json. The html is one file without scripts. ID may also be a service's name: its rollout that\n"
            "is under way, or else its last one.\n"
            "  --evidence         the rollout's evidence instead, for `judge --evidence` and `replay --evidence`\n"
            "  -o, --output FILE  written at once or not at all; without it to standard output\n\n"
            "Exit codes: 0 done, 65 a file that holds no verdict, 66 no such rollout or file, 74 not writable.\n",
    .options = OPTION_DB | OPTION_FORMAT | OPTION_OUTPUT | OPTION_AS_EVIDENCE,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
