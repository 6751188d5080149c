/*
 * A database file with anything in it is opened, read from end to end and written to. Whatever it holds, the store may
 * refuse it but not crash, hang or leak.
 *
 * The first byte chooses: odd, the rest is the file itself; even, the rest is a list of edits (three bytes of offset,
 * one of value) to a good store, which reaches behind the header. Run it with `-max_len=4096 -timeout=10`.
 */
#include "analyzer/store/store.h"
#include "base/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static char path[96];
static uint8_t *good;
static size_t good_length;

static void remove_files(void)
{
    const char *const ends[] = {"", "-wal", "-shm", "-lock", "-journal"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", path, ends[i]);
        unlink(name);
    }
}

static void remove_folder(void)
{
    remove_files();
    rmdir(folder);
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void write_good_store(void)
{
    struct store *store = store_open(path, NULL);
    must(store);
    struct policy_setting setting = {(char *)"PORT", (char *)"80"};
    struct policy policy = {.source = (char *)"version: 1\n", .settings = &setting, .setting_count = 1};
    struct rollout rollout = {.id = "shop-1", .service = (char *)"shop", .weight_bp = 500, .begun_ms = 1};
    struct intent intent = {true, 500, 1, (char *)"step"};
    struct evidence_decision decision = {1, (char *)"hold", (char *)"anna", (char *)"lunch"};
    struct audit_entry entry = {1, (char *)"haldane", (char *)"begun", (char *)"x", 500};
    const char *look = "{\"metrics\":{\"errors\":{\"type\":\"errors\",\"intervals\":[{\"at\":2,\"from\":1,\"stable\":"
                       "{\"requests\":9,\"failed\":1},\"canary\":null}]}}}";
    struct balancer_counters counters = {.at_ms = 2000, .generation = 7};
    char *sample = evidence_balancer_to_json(&counters);
    must(store_add_rollout(store, &rollout, &policy, NULL) && store_put_intent(store, rollout.id, &intent, NULL) &&
         store_add_look(store, rollout.id, 2000, look, NULL) && store_add_weight(store, rollout.id, 1, 500, NULL) &&
         store_add_decision(store, rollout.id, &decision, NULL) &&
         store_add_balancer(store, rollout.id, 2000, sample, NULL) &&
         store_add_verdict(store, rollout.id, 1, 2000, "{}", NULL) && store_add_audit(store, rollout.id, &entry, NULL));
    free(sample);
    store_close(store);
}

static void prepare(void)
{
    snprintf(folder, sizeof folder, "%s/haldane-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    must(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/store.db", folder);
    atexit(remove_folder);
    write_good_store();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    must(fd >= 0 && fstat(fd, &st) == 0);
    good_length = (size_t)st.st_size;
    good = mem_alloc(good_length, 1);
    must(read(fd, good, good_length) == (ssize_t)good_length);
    close(fd);
}

static void write_file(const uint8_t *bytes, size_t length)
{
    remove_files();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    close(fd);
}

static void write_edited(const uint8_t *edits, size_t size)
{
    uint8_t *bytes = mem_alloc(good_length, 1);
    memcpy(bytes, good, good_length);
    for (; size >= 4; size -= 4, edits += 4)
        bytes[((size_t)edits[0] << 16 | (size_t)edits[1] << 8 | edits[2]) % good_length] = edits[3];
    write_file(bytes, good_length);
    free(bytes);
}

static void load_logs(struct store *store, const char *id)
{
    struct error err;
    char **texts;
    struct audit_entry *entries;
    size_t count;
    evidence_free(store_load_evidence(store, id, 15000, &err));
    if (store_load_verdicts(store, id, false, &texts, &count, &err)) {
        for (size_t i = 0; i < count; i++)
            free(texts[i]);
        free(texts);
    }
    if (store_load_audit(store, id, &entries, &count, &err))
        audit_entries_free(entries, count);
}

static void load_rollout(struct store *store, const char *id)
{
    struct error err;
    struct rollout rollout;
    struct stored_policy policy;
    struct intent intent;
    if (store_load_rollout(store, id, &rollout, &err))
        rollout_clear(&rollout);
    if (store_load_policy(store, id, &policy, &err))
        stored_policy_free(&policy);
    if (store_get_intent(store, id, &intent, &err))
        intent_clear(&intent);
    load_logs(store, id);
}

static void write_rollout(struct store *store, struct rollout *rollout)
{
    struct error err;
    struct audit_entry entry = {3000, (char *)"haldane", (char *)"look", NULL, 500};
    struct intent intent = {true, 0, 3000, NULL};
    if (store_lock(store, rollout->id, &err) && store_begin(store, &err)) {
        store_add_look(store, rollout->id, 3000, "{\"metrics\":{}}", &err);
        store_add_verdict(store, rollout->id, 2, 3000, "{}", &err);
        store_add_balancer(store, rollout->id, 3000, "{}", &err);
        store_add_audit(store, rollout->id, &entry, &err);
        store_put_intent(store, rollout->id, &intent, &err);
        rollout->state = ROLLOUT_PROMOTED;
        rollout->ended_ms = 3000;
        store_save_rollout(store, rollout, &err);
        store_commit(store, &err);
    }
    store_clear_intent(store, rollout->id, &err);
    store_lock_holder(store, rollout->id);
    store_unlock(store, rollout->id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (!good)
        prepare();
    if (data[0] & 1)
        write_file(data + 1, size - 1);
    else
        write_edited(data + 1, size - 1);
    struct error err;
    struct store *store = store_open(path, &err);
    if (!store)
        return 0;
    load_rollout(store, "shop-1");
    struct rollout *rollouts;
    size_t count;
    if (store_list_rollouts(store, false, &rollouts, &count, &err)) {
        for (size_t i = 0; i < count; i++) {
            load_rollout(store, rollouts[i].id);
            write_rollout(store, &rollouts[i]);
            rollout_clear(&rollouts[i]);
        }
        free(rollouts);
    }
    struct pruning done;
    store_prune(store, INT64_MAX, INT64_MAX, &done, &err);
    store_close(store);
    return 0;
}
