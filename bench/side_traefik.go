package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// traefikSide is the whole service: Traefik, gateway, backend.
type traefikSide struct{ *programs }

func (s *traefikSide) name() string { return "traefik" }

func (s *traefikSide) about() string {
	return "the whole service: Traefik with the files of the repository in front of gateway and backend"
}

func (s *traefikSide) version(context.Context) (string, error) {
	return s.commit + ", " + filepath.Base(s.traefik), nil
}

func (s *traefikSide) start(ctx context.Context, where place) (*store, error) {
	addresses, err := freeAddresses(ctx, 4)
	if err != nil {
		return nil, err
	}
	backend, gateway, web, ping := addresses[0], addresses[1], addresses[2], addresses[3]
	if err := s.copyConfiguration(where.dir, web, ping); err != nil {
		return nil, err
	}
	return startOurs(ctx, web,
		s.backendAt(where, backend),
		s.gatewayAt(where, gateway, backend),
		program{name: "traefik", path: s.traefik, dir: where.dir,
			args: []string{"--configFile=traefik/traefik.yml"},
			env:  []string{"KV_GATEWAY_URL=http://" + gateway}})
}

// copyConfiguration copies the configuration files, with other addresses of the two entry points.
func (s *traefikSide) copyConfiguration(dir, web, ping string) error {
	to := filepath.Join(dir, "traefik")
	if err := os.Mkdir(to, 0o750); err != nil {
		return err
	}
	from := filepath.Join(s.root, "traefik")
	dynamic, err := os.ReadFile(filepath.Join(from, "dynamic.yml"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to, "dynamic.yml"), dynamic, 0o644); err != nil {
		return err
	}
	static, err := os.ReadFile(filepath.Join(from, "traefik.yml"))
	if err != nil {
		return err
	}
	for old, address := range map[string]string{`address: ":8000"`: web, `address: "127.0.0.1:8002"`: ping} {
		if !bytes.Contains(static, []byte(old)) {
			return fmt.Errorf("traefik.yml has no %s", old)
		}
		static = []byte(strings.ReplaceAll(string(static), old, `address: "`+address+`"`))
	}
	return os.WriteFile(filepath.Join(to, "traefik.yml"), static, 0o644)
}
