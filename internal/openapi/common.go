package main

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"kvstore/internal/problem"
)

// An endpoint is an operation with its path and method.
type endpoint struct {
	path, method string
	*openapi3.Operation
}

// open are the paths that need no access token, and one that no token opens.
var open = []string{"/health", "/healthz", "/readyz", "/docs", "/docs/{file}", "/openapi.json", "/db/compact"}

// inside are the paths for supervisors next to the programs, and operator those that only
// the backend itself serves.
var (
	inside   = []string{"/healthz", "/readyz", "/db/compact"}
	operator = []string{"/db/compact", "/db/backup"}
)

func (e endpoint) guarded() bool { return !slices.Contains(open, e.path) }
func (e endpoint) outside() bool { return !slices.Contains(inside, e.path) }
func (e endpoint) keyed() bool   { return strings.HasSuffix(e.path, "/{key}") }
func (e endpoint) writes() bool  { return e.method != http.MethodGet }

func (e endpoint) conditional() bool {
	return e.Parameters.GetByInAndName(openapi3.ParameterInHeader, "If-Match") != nil
}

// A failure is an answer that operations have in common. It is one of the components, by
// its name.
type failure struct {
	status int
	name   string
	of     func(endpoint) bool
	text   string
}

// failures are those that annotations leave out. An operation has, of each status, the first
// that is one of it.
var failures = []failure{
	{400, "InvalidCondition", func(e endpoint) bool { return e.conditional() && e.keyed() }, "The key, the query or a condition is invalid, or a condition is of a kind that is not evaluated (code invalid_key, malformed_query, malformed_condition, unsupported_condition)"},
	{400, "InvalidKey", endpoint.keyed, "The key or the query is invalid, or there is a condition, which is not evaluated (code invalid_key, malformed_query, unsupported_condition)"},
	{400, "InvalidQuery", func(endpoint) bool { return true }, "The query is invalid, or there is a condition, which is not evaluated (code malformed_query, unsupported_condition)"},
	{401, "Unauthorized", endpoint.guarded, "There is no access token, or one that is unknown, was revoked or has expired (code unauthorized, invalid_token)"},
	{403, "WriteForbidden", func(e endpoint) bool { return e.guarded() && e.writes() }, "The access token lacks a right, which detail and the member right name (code forbidden), or a web page of another origin sent the write (code cross_origin)"},
	{403, "Forbidden", endpoint.guarded, "The access token lacks a right, which detail and the member right name (code forbidden)"},
	{404, "NotForwarded", func(e endpoint) bool { return slices.Contains(operator, e.path) }, "Asked through the gateway (code not_found)"},
	{404, "NotOutside", func(e endpoint) bool { return !e.outside() }, "Asked through Traefik (code not_found)"},
	{412, "PreconditionFailed", func(e endpoint) bool { return e.conditional() && e.writes() }, "The condition does not hold; nothing was written. `current_version` is the latest version, 0 if the key does not exist (code precondition_failed)"},
	{415, "EncodedBody", endpoint.writes, "The body is encoded: Content-Encoding is not identity (code unsupported_media_type)"},
	{422, "UnknownParameter", func(endpoint) bool { return true }, "The operation does not know a parameter of the query, or a parameter is given more than once (code unknown_parameter, repeated_parameter)"},
	{429, "TooManyRequests", endpoint.outside, "The address of the client sends too many requests per second, or has too many under way; nothing was done (code too_many_requests)"},
	{500, "OutcomeUnknown", endpoint.writes, "The disk or the database failed when the write was to be made safe: it may be there now, or after a restart (code outcome_unknown); or what the request reads is damaged on the disk, or cannot be read from it (code store_damaged)"},
	{500, "Damaged", endpoint.readsDisk, "What the request reads is damaged on the disk, or cannot be read from it; it is not served (code store_damaged)"},
	{503, "Unavailable", func(endpoint) bool { return true }, "The backend or the database cannot be reached, the disk reports errors, or there is too much work already (code backend_unavailable, store_unavailable, disk_failed, overloaded)"},
	{504, "WriteTimeout", func(e endpoint) bool { return e.outside() && e.writes() }, "The backend did not answer in time; whether the write was made is not known (code backend_timeout)"},
	{504, "Timeout", endpoint.outside, "The backend did not answer in time (code backend_timeout)"},
	{507, "StorageFull", endpoint.writes, "The disk is full; nothing was written (code storage_full)"},
}

// readsDisk reports whether the operation reads the database: all do except the statistics
// of the cache and what the program contains.
func (e endpoint) readsDisk() bool {
	return e.guarded() && e.path != "/cache/stats" || e.path == "/readyz"
}

// headers are those of every answer, or of all with one of the statuses.
var headers = []struct {
	name     string
	statuses []int
	kind     string
	text     string
}{
	{"X-Request-Id", nil, "string", "The id of the request, the same at every hop and in every log line"},
	{"Retry-After", []int{429, 503}, "integer", "When to try again, in seconds"},
	{"WWW-Authenticate", []int{401, 403}, "string", "What to bring: a Bearer token, and the error (RFC 6750)"},
}

// addCommon adds to every operation what is the same for all of its kind and therefore not in
// the annotations: failures, headers, the key parameter and the access token.
func addCommon(document *openapi3.T) {
	document.Components.SecuritySchemes = openapi3.SecuritySchemes{"token": {Value: &openapi3.SecurityScheme{
		Type: "http", Scheme: "bearer",
		Description: "An access token. It is needed only where the operator has set KV_TOKENS_FILE.",
	}}}
	document.Security = openapi3.SecurityRequirements{{}, {"token": {}}} // either none or a token
	document.Components.Responses = openapi3.ResponseBodies{}
	document.Components.Headers = headerComponents()
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			e := endpoint{path, method, operation}
			if !e.guarded() {
				e.Security = openapi3.NewSecurityRequirements()
			}
			if e.keyed() {
				e.Parameters = slices.Insert(e.Parameters, 0, keyParameter(document))
			}
			e.addFailures(document)
			for status, response := range e.Responses.Map() {
				addHeaders(document, status, response)
			}
		}
	}
	for name, response := range document.Components.Responses {
		i := slices.IndexFunc(failures, func(f failure) bool { return f.name == name })
		addHeaders(document, strconv.Itoa(failures[i].status), response)
	}
}

// addFailures adds references to common failures. If the annotations have one of the same
// status, it appends the common text to theirs.
func (e endpoint) addFailures(document *openapi3.T) {
	done := map[int]bool{}
	for _, f := range failures {
		if done[f.status] || !f.of(e) {
			continue
		}
		done[f.status] = true
		if own := e.Responses.Status(f.status); own != nil {
			text := *own.Value.Description + ". " + f.text
			own.Value.Description = &text
			continue
		}
		if document.Components.Responses[f.name] == nil {
			content := openapi3.NewContentWithSchemaRef(problemSchema(document), []string{problem.ContentType})
			document.Components.Responses[f.name] = &openapi3.ResponseRef{Value: openapi3.NewResponse().WithDescription(f.text).WithContent(content)}
		}
		e.Responses.Set(strconv.Itoa(f.status), &openapi3.ResponseRef{
			Ref: "#/components/responses/" + f.name, Value: document.Components.Responses[f.name].Value,
		})
	}
}

func problemSchema(document *openapi3.T) *openapi3.SchemaRef {
	return openapi3.NewSchemaRef("#/components/schemas/Problem", document.Components.Schemas["Problem"].Value)
}

func headerComponents() openapi3.Headers {
	components := openapi3.Headers{}
	for _, h := range headers {
		schema := openapi3.NewSchema()
		schema.Type = &openapi3.Types{h.kind}
		components[h.name] = &openapi3.HeaderRef{Value: &openapi3.Header{Parameter: openapi3.Parameter{
			Description: h.text, Required: h.statuses == nil, Schema: schema.NewRef(),
		}}}
	}
	return components
}

func addHeaders(document *openapi3.T, status string, response *openapi3.ResponseRef) {
	if response.Ref != "" {
		return
	}
	if response.Value.Headers == nil {
		response.Value.Headers = openapi3.Headers{}
	}
	for _, h := range headers {
		if number, _ := strconv.Atoi(status); h.statuses == nil || slices.Contains(h.statuses, number) {
			response.Value.Headers[h.name] = &openapi3.HeaderRef{Ref: "#/components/headers/" + h.name, Value: document.Components.Headers[h.name].Value}
		}
	}
}

// keyParameter returns a reference to the parameter key.
func keyParameter(document *openapi3.T) *openapi3.ParameterRef {
	if document.Components.Parameters == nil {
		key := openapi3.NewPathParameter("key").WithSchema(openapi3.NewStringSchema().WithMinLength(1)).
			WithDescription("The key: 1 to 512 bytes of UTF-8 after percent-decoding. Slashes belong to it; control characters do not")
		key.Example = "app/db/host"
		document.Components.Parameters = openapi3.ParametersMap{"KeyInPath": {Value: key}}
	}
	return &openapi3.ParameterRef{Ref: "#/components/parameters/KeyInPath", Value: document.Components.Parameters["KeyInPath"].Value}
}
