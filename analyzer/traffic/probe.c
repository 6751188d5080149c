/* One easy handle for each question: a kept connection would belong to an old worker, with the old worker's share. */
#include "analyzer/traffic/probe.h"

#include "analyzer/model/json.h"
#include "analyzer/traffic/ops.h"
#include "base/strbuf.h"

#include <curl/curl.h>
#include <string.h>

enum { PAGE_MAX = 4096 };

char *share_page_text(const struct share_page *page)
{
    cJSON *object = cJSON_CreateObject();
    json_add_whole(object, "share_bp", page->share_bp);
    json_add_whole(object, "epoch", page->epoch);
    json_add_whole(object, "generation", page->generation);
    return json_print(object);
}

static bool read_members(const cJSON *object, const char *what, struct share_page *page, struct error *err)
{
    uint64_t share;
    if (!json_count(object, "share_bp", what, &share, err) || !json_whole(object, "epoch", what, &page->epoch, err) ||
        !json_whole(object, "generation", what, &page->generation, err))
        return false;
    if (share > BASIS_POINTS)
        return error_set(err, ERROR_DATA, "%s.share_bp is %llu, more than all traffic (10000)", what,
                         (unsigned long long)share);
    page->share_bp = (uint32_t)share;
    return true;
}

bool share_page_parse(const char *text, size_t length, const char *what, struct share_page *page, struct error *err)
{
    *page = (struct share_page){0};
    cJSON *object = json_parse_object(text, length, what, err);
    bool ok = object && read_members(object, what, page, err);
    cJSON_Delete(object);
    return ok;
}

bool share_page_equal(const struct share_page *a, const struct share_page *b)
{
    return a->share_bp == b->share_bp && a->epoch == b->epoch && a->generation == b->generation;
}

static size_t take(char *bytes, size_t size, size_t count, void *context)
{
    struct strbuf *body = context;
    if (body->length + size * count > PAGE_MAX)
        return 0;
    strbuf_add(body, bytes, size * count);
    return size * count;
}

static CURL *make_question(const char *url, int64_t deadline_ms, struct strbuf *body, char *message)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        return NULL;
    int64_t left = deadline_ms - driver_clock_ms();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(left < 1 ? 1 : left));
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "haldane");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body);
    return easy;
}

static enum driver_status no_answer(const char *url, CURLcode code, const char *message, struct error *err)
{
    const char *why = *message ? message : curl_easy_strerror(code);
    if (code == CURLE_WRITE_ERROR)
        return driver_fail(err, DRIVER_REFUSED, "%s is larger than %d bytes, so it is not the page of the share", url,
                           PAGE_MAX);
    return driver_fail(err, code == CURLE_OPERATION_TIMEDOUT ? DRIVER_TIMEOUT : DRIVER_UNREACHABLE,
                       "the probe %s did not answer: %s", url, why);
}

static enum driver_status judge_answer(const char *url, long code, const struct strbuf *body, struct share_page *page,
                                       bool *there, struct error *err)
{
    *there = code != 404;
    if (!*there)
        return DRIVER_OK;
    if (code != 200)
        return driver_fail(err, code >= 500 ? DRIVER_UNREACHABLE : DRIVER_REFUSED,
                           "the probe %s answered with status %ld, not with the page of the share", url, code);
    if (share_page_parse(body->text ? body->text : "", body->length, url, page, err))
        return DRIVER_OK;
    error_prefix(err, "the probe does not show the page of the share");
    return DRIVER_REFUSED;
}

enum driver_status probe_ask(const char *url, int64_t deadline_ms, struct share_page *page, bool *there,
                             struct error *err)
{
    *page = (struct share_page){0};
    *there = false;
    struct strbuf body = {0};
    char message[CURL_ERROR_SIZE] = "";
    CURL *easy = make_question(url, deadline_ms, &body, message);
    if (!easy)
        return driver_fail(err, DRIVER_UNREACHABLE, "the probe %s could not be asked: libcurl did not start", url);
    CURLcode code = curl_easy_perform(easy);
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    enum driver_status result =
        code == CURLE_OK ? judge_answer(url, status, &body, page, there, err) : no_answer(url, code, message, err);
    curl_easy_cleanup(easy);
    strbuf_free(&body);
    return result;
}
