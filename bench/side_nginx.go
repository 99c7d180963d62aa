package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nginxSide is nginx instead of the gateway.
type nginxSide struct{ *programs }

func (s *nginxSide) name() string { return "nginx" }

func (s *nginxSide) about() string {
	return "nginx instead of the gateway, in front of our backend: HTTP/1.1 with keep-alive, no access log, one worker per core"
}

func (s *nginxSide) version(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "nginx", "-v").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nginx: %w", errNotInstalled)
	}
	return s.commit + ", " + strings.TrimPrefix(strings.TrimSpace(string(output)), "nginx version: "), nil
}

// nginxConfiguration raises keepalive_requests. By default, nginx closes a connection after 1,000
// requests, both to clients and to the backend, which the other sides do not.
const nginxConfiguration = `daemon off;
pid %[1]s/nginx.pid;
error_log stderr warn;
worker_processes auto;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream backend {
		server %[2]s;
		keepalive 128;
		keepalive_requests 1000000000;
	}
	server {
		listen %[3]s;
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
		}
	}
}
`

func (s *nginxSide) start(ctx context.Context, where place) (*store, error) {
	addresses, err := freeAddresses(ctx, 2)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(where.dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfiguration, where.dir, addresses[0], addresses[1])
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return startOurs(ctx, addresses[1],
		s.backendAt(where, addresses[0]),
		program{name: "nginx", path: "nginx", dir: where.dir, args: []string{"-c", file, "-e", "stderr"}})
}
