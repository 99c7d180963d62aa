package traefik_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// However a client mistreats its token, no log has it: not Traefik's, when it is on,
// and not those of the others at their lowest level.
func TestNoLogHasATokenOfTheURL(t *testing.T) {
	file := tokenFile(filepath.Join(t.TempDir(), "tokens.yml"))
	secret := file.add(t, "ci", "read,write:")
	s := startStack(t, "KV_TOKENS_FILE="+string(file), "KV_LOG_LEVEL=debug", "KV_ACCESS_LOG=true")
	s.waitHealthy(t)
	send := func(header http.Header, target string, status int) {
		t.Helper()
		for _, address := range []string{webAddress, s.gatewayAddress} {
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead} {
				answer, err := tryRequest(address, method, target, header, "")
				if err != nil {
					t.Fatal(err)
				}
				if status != 0 && answer.status != status {
					t.Errorf("%s %.25s: %d", method, target, answer.status)
				}
			}
		}
	}
	for _, query := range []string{"access_token=", "token=", "auth_token=", "bearer=", "api_key=", "x=1&access_token=kv_&access_token=", "%61ccess_token="} {
		send(nil, "/get/k?"+query+secret, http.StatusUnauthorized)
		send(bearer(secret), "/get/k?"+query+secret, 0)
	}
	send(nil, "/metrics?token="+secret, 0)
	send(nil, "/get/"+secret, http.StatusUnauthorized)
	send(bearer(secret), "/nothing/"+secret, http.StatusNotFound)
	for _, name := range []string{"Cookie", "X-Access-Token", "Proxy-Authorization", "Referer", "User-Agent"} {
		send(http.Header{name: {secret}}, "/get/k", http.StatusUnauthorized)
	}
	request(t, webAddress, http.MethodGet, "/get/logged", nil, "")
	s.traefik.stop(t) // and so flushes its log
	if len(s.traefik.log.lines(`"DownstreamStatus":401`)) == 0 || len(s.traefik.log.lines("/get/")) > 0 ||
		len(s.gateway.log.lines("/get/logged")) != 1 || len(s.gateway.log.lines("access_token=...")) == 0 || len(s.gateway.log.lines("/get/kv_...")) == 0 {
		t.Error("the logs do not have what they should")
	}
	for _, p := range s.processes() {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log of %s has the token: %s", p.name, p.log.lines(secret)[0])
		}
	}
}
