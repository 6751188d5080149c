/*
 * One curl multi handle for the client's life keeps the connections. A fixed number of transfers (easy handles with
 * their buffers) is shared by all queries; a query that finds none free waits here and not inside libcurl, so that its
 * time-out counts only the time it is under way. Retries are queries that wait for a moment to come. All moments are
 * of CLOCK_MONOTONIC.
 */
#include "promclient/client.h"

#include "base/memory.h"
#include "base/strbuf.h"
#include "promclient/endpoint.h"

#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { QUERY_SHOWN = 300, KEPT_BUFFER = 1 << 20, POLL_MS = 1000 };

enum task_state { TASK_WAITS, TASK_RUNS, TASK_ENDED };

/* One query of a batch. */
struct task {
    struct prom_batch *batch;
    char *text, *form;
    struct prom_expect expect;
    enum task_state state;
    int tries;        /* begun so far */
    int64_t ready_at; /* TASK_WAITS: not before */
    struct prom_answer *answer;
    struct prom_result result;
};

struct prom_batch {
    struct prom_client *client;
    struct prom_batch *next;
    struct task *tasks;
    size_t count, open; /* open: not ended */
    int64_t deadline_at;
    struct secrets secrets;
};

/* What carries one try at a time. */
struct transfer {
    struct prom_client *client;
    CURL *easy;        /* made when first needed */
    struct task *task; /* NULL: free */
    struct strbuf body;
    bool too_large;
    char message[CURL_ERROR_SIZE];
};

struct prom_client {
    struct endpoint endpoint;
    struct prom_limits limits;
    int64_t timeout_ms, deadline_ms, retry_pause_ms;
    int tries;
    CURLM *multi;
    struct transfer *transfers;
    size_t transfer_count;
    struct prom_batch *batches;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * With CURLOPT_NOSIGNAL libcurl leaves SIGPIPE to its caller, and OpenSSL can raise it on a connection that the server
 * has closed. It is held back while libcurl works, and taken away if it came.
 */
struct pipe_guard {
    sigset_t before;
    bool was_pending;
};

static sigset_t only_sigpipe(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

static void guard_on(struct pipe_guard *guard)
{
    sigset_t pending, pipe = only_sigpipe();
    sigpending(&pending);
    guard->was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe, &guard->before);
}

static void guard_off(const struct pipe_guard *guard)
{
    const struct timespec at_once = {0};
    sigset_t pipe = only_sigpipe();
    if (!guard->was_pending)
        sigtimedwait(&pipe, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}

/* ---- ends of a query ---- */

static void end_task(struct task *task)
{
    task->state = TASK_ENDED;
    task->batch->open--;
    if (task->batch->open == 0)
        secrets_wipe(&task->batch->secrets);
}

static void end_with_answer(struct task *task, struct prom_answer *answer)
{
    task->answer = answer;
    task->result.answer = answer;
    task->result.error = (struct error){0};
    end_task(task);
}

static void end_with_error(struct task *task)
{
    if (task->tries > 1)
        error_prefix(&task->result.error, "after %d tries", task->tries);
    end_task(task);
}

/* A pause between half and the whole of retry_pause * 2^(tries-1): clients that failed together come back apart. */
static int64_t pause_before_retry(const struct prom_client *client, int tries)
{
    int doublings = tries > 10 ? 10 : tries - 1;
    int64_t pause = client->retry_pause_ms << doublings;
    uint64_t dice = 0;
    if (getrandom(&dice, sizeof dice, GRND_NONBLOCK) != (ssize_t)sizeof dice)
        dice = (uint64_t)now_ms();
    return pause - (int64_t)(dice % (uint64_t)(pause / 2 + 1));
}

static void fail_or_retry(const struct prom_client *client, struct task *task, bool worth_a_retry)
{
    int64_t ready_at = now_ms() + pause_before_retry(client, task->tries);
    if (!worth_a_retry || task->tries >= client->tries || ready_at >= task->batch->deadline_at) {
        end_with_error(task);
        return;
    }
    task->state = TASK_WAITS;
    task->ready_at = ready_at;
}

static const char broke[] = "the connection broke; look into the server's log. With TLS: does the server want a client "
                            "certificate (tls cert_file and key_file)?";

static const struct {
    CURLcode curl;
    enum error_code code;
    bool retry;
    const char *mend;
} troubles[] = {
    {CURLE_COULDNT_RESOLVE_HOST, ERROR_UNAVAILABLE, true, "is the host's name right?"},
    {CURLE_COULDNT_RESOLVE_PROXY, ERROR_UNAVAILABLE, true, "is the proxy in the environment right?"},
    {CURLE_COULDNT_CONNECT, ERROR_UNAVAILABLE, true, "is Prometheus running, and are host and port right?"},
    {CURLE_OPERATION_TIMEDOUT, ERROR_UNAVAILABLE, true, "raise prometheus.timeout, or ask for less"},
    {CURLE_SEND_ERROR, ERROR_UNAVAILABLE, true, broke},
    {CURLE_RECV_ERROR, ERROR_UNAVAILABLE, true, broke},
    {CURLE_HTTP2, ERROR_UNAVAILABLE, true, broke},
    {CURLE_HTTP2_STREAM, ERROR_UNAVAILABLE, true, broke},
    {CURLE_GOT_NOTHING, ERROR_UNAVAILABLE, true, "the connection was closed; look into the server's log"},
    {CURLE_PARTIAL_FILE, ERROR_UNAVAILABLE, true, "the answer was cut off; look into the server's log"},
    {CURLE_SSL_CONNECT_ERROR, ERROR_UNAVAILABLE, true,
     "does the server speak TLS here, and does it want a client certificate (tls cert_file and key_file)?"},
    {CURLE_PEER_FAILED_VERIFICATION, ERROR_UNAVAILABLE, false, "check tls ca_file and server_name"},
    {CURLE_SSL_CACERT_BADFILE, ERROR_NO_INPUT, false, "tls ca_file cannot be used; is it PEM and readable?"},
    {CURLE_SSL_CERTPROBLEM, ERROR_NO_INPUT, false,
     "tls cert_file and key_file cannot be used; are they PEM, readable, without a passphrase, and a pair?"},
    {CURLE_WEIRD_SERVER_REPLY, ERROR_UNAVAILABLE, false, "is the URL that of Prometheus, and http or https right?"},
};
enum { TROUBLES = sizeof troubles / sizeof troubles[0] };

static void set_error(struct task *task, enum error_code code, const char *what, const char *mend)
{
    const char *server = task->batch->client->endpoint.server;
    char *query = prom_one_line(task->text, strlen(task->text), QUERY_SHOWN);
    error_set(&task->result.error, code, "query `%s` at %s: %s; %s", query, server, what, mend);
    free(query);
}

/* The try ended without a whole answer. */
static void take_trouble(struct prom_client *client, const struct transfer *transfer, struct task *task, CURLcode curl)
{
    const char *what = *transfer->message ? transfer->message : curl_easy_strerror(curl);
    if (transfer->too_large) {
        char *size = mem_printf("the answer is larger than %zu bytes", client->limits.bytes);
        set_error(task, ERROR_DATA, size, "narrow the selector or ask for less time");
        free(size);
        end_with_error(task);
        return;
    }
    size_t t = 0;
    while (t < TROUBLES && troubles[t].curl != curl)
        t++;
    if (t == TROUBLES) {
        set_error(task, ERROR_UNAVAILABLE, what, "check prometheus.url and tls");
        end_with_error(task);
        return;
    }
    set_error(task, troubles[t].code, what, troubles[t].mend);
    fail_or_retry(client, task, troubles[t].retry);
}

static void take_answer(struct prom_client *client, struct transfer *transfer, struct task *task)
{
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    const struct prom_source source = {task->text, client->endpoint.server};
    const char *body = transfer->body.text ? transfer->body.text : "";
    struct prom_answer *answer = prom_answer_parse(&source, &task->expect, &client->limits, status, body,
                                                   transfer->body.length, &task->result.error);
    if (answer)
        end_with_answer(task, answer);
    else
        fail_or_retry(client, task, status >= 500);
}

/* ---- transfers ---- */

static size_t take_bytes(char *bytes, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    size_t length = size * count;
    if (length > transfer->client->limits.bytes - transfer->body.length) {
        transfer->too_large = true;
        return 0;
    }
    strbuf_add(&transfer->body, bytes, length);
    return length;
}

static void free_transfer(struct transfer *transfer)
{
    transfer->task = NULL;
    transfer->body.length = 0;
    if (transfer->body.room > KEPT_BUFFER)
        strbuf_free(&transfer->body);
    curl_easy_reset(transfer->easy); /* forgets the password; the connection stays with the multi handle */
}

static void begin_try(struct prom_client *client, struct transfer *transfer, struct task *task, int64_t now)
{
    if (!transfer->easy)
        transfer->easy = curl_easy_init();
    CURL *easy = transfer->easy;
    assert(easy);
    int64_t left = task->batch->deadline_at - now;
    int64_t timeout = left < client->timeout_ms ? left : client->timeout_ms;
    transfer->task = task;
    transfer->too_large = false;
    transfer->message[0] = '\0';
    endpoint_prepare(&client->endpoint, easy);
    endpoint_authorize(&client->endpoint, &task->batch->secrets, easy);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, task->form);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->message);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    task->state = TASK_RUNS;
    task->tries++;
    CURLMcode added = curl_multi_add_handle(client->multi, easy);
    assert(added == CURLM_OK);
    (void)added;
}

/* Gives free transfers to queries that wait, and ends those whose batch has no time left. */
static void begin_tries(struct prom_client *client)
{
    int64_t now = now_ms();
    size_t t = 0;
    for (struct prom_batch *batch = client->batches; batch; batch = batch->next) {
        for (size_t i = 0; batch->open && i < batch->count; i++) {
            struct task *task = &batch->tasks[i];
            if (task->state != TASK_WAITS)
                continue;
            if (now >= batch->deadline_at) {
                set_error(task, ERROR_UNAVAILABLE, "no time was left to send it",
                          "is the server too slow for so many queries at once?");
                end_with_error(task);
                continue;
            }
            if (now < task->ready_at)
                continue;
            while (t < client->transfer_count && client->transfers[t].task)
                t++;
            if (t < client->transfer_count)
                begin_try(client, &client->transfers[t], task, now);
        }
    }
}

/* True if a query ended. */
static bool take_ends(struct prom_client *client)
{
    bool ended = false;
    int queued;
    const CURLMsg *message;
    while ((message = curl_multi_info_read(client->multi, &queued))) {
        struct transfer *transfer;
        CURLcode curl = message->data.result; /* the message is gone with the handle */
        CURL *easy = message->easy_handle;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
        curl_multi_remove_handle(client->multi, easy);
        struct task *task = transfer->task;
        if (curl == CURLE_OK)
            take_answer(client, transfer, task);
        else
            take_trouble(client, transfer, task, curl);
        free_transfer(transfer);
        ended = ended || task->state == TASK_ENDED;
    }
    return ended;
}

static size_t open_queries(const struct prom_client *client)
{
    size_t open = 0;
    for (const struct prom_batch *batch = client->batches; batch; batch = batch->next)
        open += batch->open;
    return open;
}

/* When the next query that waits for its moment may go, but not later than `until`. */
static int64_t next_moment(const struct prom_client *client, int64_t now, int64_t until)
{
    for (const struct prom_batch *batch = client->batches; batch; batch = batch->next)
        for (size_t i = 0; i < batch->count; i++) {
            const struct task *task = &batch->tasks[i];
            if (task->state == TASK_WAITS && task->ready_at > now && task->ready_at < until)
                until = task->ready_at;
        }
    return until;
}

bool prom_step(struct prom_client *client, int max_wait_ms)
{
    int64_t until = now_ms() + max_wait_ms;
    struct pipe_guard guard;
    guard_on(&guard);
    for (;;) {
        size_t open = open_queries(client);
        begin_tries(client);
        int running;
        curl_multi_perform(client->multi, &running);
        bool ended = take_ends(client) || open_queries(client) < open;
        int64_t now = now_ms();
        if (ended || open == 0 || now >= until)
            break;
        curl_multi_poll(client->multi, NULL, 0, (int)(next_moment(client, now, until) - now), NULL);
    }
    guard_off(&guard);
    return open_queries(client) > 0;
}

/* ---- batches ---- */

static char *make_form(const struct prom_client *client, const struct prom_query *query)
{
    char *escaped = curl_easy_escape(NULL, query->text, 0);
    assert(escaped);
    /* The server gives up when we do. The last three are Thanos's: whole answers or none, from raw blocks. */
    int64_t at = query->at_ms, timeout = client->timeout_ms;
    char *form = mem_printf("query=%s&time=%s%" PRId64 ".%03d&timeout=%" PRId64 ".%03d"
                            "&partial_response=false&dedup=true&max_source_resolution=0s",
                            escaped, at < 0 ? "-" : "", (at < 0 ? -at : at) / 1000, abs((int)(at % 1000)),
                            timeout / 1000, (int)(timeout % 1000));
    curl_free(escaped);
    return form;
}

static void init_task(struct prom_batch *batch, struct task *task, const struct prom_query *query)
{
    task->batch = batch;
    task->text = mem_strdup(query->text);
    task->form = make_form(batch->client, query);
    task->expect = query->expect;
    task->state = TASK_WAITS;
}

struct prom_batch *prom_start(struct prom_client *client, const struct prom_query queries[], size_t n)
{
    struct prom_batch *batch = mem_alloc(1, sizeof *batch);
    batch->client = client;
    batch->tasks = mem_alloc(n, sizeof *batch->tasks);
    batch->count = batch->open = n;
    batch->deadline_at = now_ms() + client->deadline_ms;
    for (size_t i = 0; i < n; i++)
        init_task(batch, &batch->tasks[i], &queries[i]);
    struct error err;
    if (!secrets_read(&client->endpoint, &batch->secrets, &err))
        for (size_t i = 0; i < n; i++) {
            batch->tasks[i].result.error = err;
            error_prefix(&batch->tasks[i].result.error, "%s", client->endpoint.server);
            end_task(&batch->tasks[i]);
        }
    /* At the end of the list: who came first is served first. */
    struct prom_batch **place = &client->batches;
    while (*place)
        place = &(*place)->next;
    *place = batch;
    return batch;
}

bool prom_batch_done(const struct prom_batch *batch)
{
    return batch->open == 0;
}

const struct prom_result *prom_batch_result(const struct prom_batch *batch, size_t i)
{
    assert(batch->open == 0 && i < batch->count);
    return &batch->tasks[i].result;
}

/* Takes a batch that is given up off the wire. */
static void cancel(struct prom_client *client, const struct prom_batch *batch)
{
    struct pipe_guard guard;
    guard_on(&guard);
    for (size_t t = 0; t < client->transfer_count; t++) {
        struct transfer *transfer = &client->transfers[t];
        if (!transfer->task || transfer->task->batch != batch)
            continue;
        curl_multi_remove_handle(client->multi, transfer->easy);
        free_transfer(transfer);
    }
    guard_off(&guard);
}

void prom_batch_free(struct prom_batch *batch)
{
    if (!batch)
        return;
    if (batch->open)
        cancel(batch->client, batch);
    struct prom_batch **place = &batch->client->batches;
    while (*place != batch)
        place = &(*place)->next;
    *place = batch->next;
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->tasks[i].text);
        free(batch->tasks[i].form);
        prom_answer_free(batch->tasks[i].answer);
    }
    free(batch->tasks);
    secrets_wipe(&batch->secrets);
    free(batch);
}

struct prom_batch *prom_query_all(struct prom_client *client, const struct prom_query queries[], size_t n)
{
    struct prom_batch *batch = prom_start(client, queries, n);
    while (!prom_batch_done(batch))
        prom_step(client, POLL_MS);
    return batch;
}

/* ---- the client ---- */

static bool take_numbers(struct prom_client *client, const struct prom_config *config, struct error *err)
{
    const int64_t day = 86400000;
    if (config->timeout_ms < 0 || config->timeout_ms > day || config->deadline_ms < 0 || config->deadline_ms > day ||
        config->retry_pause_ms < 0 || config->retry_pause_ms > day || config->tries < 0 || config->tries > 100 ||
        config->parallel < 0 || config->parallel > 1000)
        return error_set(err, ERROR_DATA, "a time-out or limit for Prometheus is negative or absurdly large");
    client->limits = config->limits;
    client->limits.bytes = config->limits.bytes ? config->limits.bytes : (size_t)64 << 20;
    client->timeout_ms = config->timeout_ms ? config->timeout_ms : 10000;
    client->tries = config->tries ? config->tries : 3;
    client->deadline_ms = config->deadline_ms ? config->deadline_ms : (client->tries + 1) * client->timeout_ms;
    client->retry_pause_ms = config->retry_pause_ms ? config->retry_pause_ms : 200;
    client->transfer_count = config->parallel ? (size_t)config->parallel : 16;
    return true;
}

struct prom_client *prom_client_new(const struct prom_config *config, struct error *err)
{
    CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT); /* counted; matched in prom_client_free */
    if (global != CURLE_OK) {
        error_set(err, ERROR_SOFTWARE, "libcurl cannot be started: %s", curl_easy_strerror(global));
        return NULL;
    }
    struct prom_client *client = mem_alloc(1, sizeof *client);
    if (!take_numbers(client, config, err) || !endpoint_init(&client->endpoint, config, err)) {
        curl_global_cleanup();
        free(client);
        return NULL;
    }
    client->multi = curl_multi_init();
    assert(client->multi);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)client->transfer_count);
    client->transfers = mem_alloc(client->transfer_count, sizeof *client->transfers);
    for (size_t i = 0; i < client->transfer_count; i++)
        client->transfers[i].client = client;
    return client;
}

void prom_client_free(struct prom_client *client)
{
    if (!client)
        return;
    assert(!client->batches);
    struct pipe_guard guard;
    guard_on(&guard);
    for (size_t i = 0; i < client->transfer_count; i++) {
        curl_easy_cleanup(client->transfers[i].easy);
        strbuf_free(&client->transfers[i].body);
    }
    curl_multi_cleanup(client->multi);
    guard_off(&guard);
    free(client->transfers);
    endpoint_free(&client->endpoint);
    curl_global_cleanup();
    free(client);
}
