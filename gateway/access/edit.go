package access

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"go.yaml.in/yaml/v3"
)

const fileHead = `Who may do what: "gateway token --help". A running gateway follows changes within a second.
Only hashes of the tokens are here. Replace the file as a whole (write another one and rename it).`

// Load reads the tokens of a file.
func Load(path string) ([]*Token, error) {
	text, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parse(path, text)
}

// Add appends a token to the file, which it creates with mode 0600 if there is none. The
// file is replaced in one step, comments are kept, and the new one is on disk when Add
// returns. On failure, or if the file has mistakes, it stays as it is.
func Add(path string, t *Token) error {
	return edit(path, true, func(list *yaml.Node) error {
		for _, entry := range list.Content {
			if nameIn(entry) == t.Name {
				return fmt.Errorf("there is a token %q already; revoke it or take another name", t.Name)
			}
		}
		entry, err := nodeOf(t)
		list.Style = 0 // no longer []
		list.Content = append(list.Content, entry)
		return err
	})
}

// Remove removes a token from the file in the same way.
func Remove(path, name string) error {
	return edit(path, false, func(list *yaml.Node) error {
		for i, entry := range list.Content {
			if nameIn(entry) == name {
				list.Content = append(list.Content[:i], list.Content[i+1:]...)
				return nil
			}
		}
		return fmt.Errorf("there is no token %q", name)
	})
}

// edit changes the list of tokens. Only one edit runs at a time.
func edit(path string, create bool, change func(list *yaml.Node) error) error {
	path, err := target(path)
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("change the file of tokens: %w", err)
	}
	defer dir.Close() // and so unlocks
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	text, _, err := readFile(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("tokens: []\n"), nil
	}
	if err != nil {
		return err
	}
	if text, err = changed(path, text, change); err != nil {
		return err
	}
	if err := replace(path, text); err != nil {
		return err
	}
	// Without it, a revoked token could be back after a power failure.
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir.Name(), err)
	}
	return nil
}

// target follows links, so that the file is replaced and not a link to it.
func target(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return resolved, err
}

// changed returns the text after the change. The text must have no mistakes, neither before
// nor after it.
func changed(path string, text []byte, change func(list *yaml.Node) error) ([]byte, error) {
	if _, err := parse(path, text); err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, syntaxError(err)
	}
	top := doc.Content[0]
	if len(top.Content[1].Content) == 0 && top.HeadComment == "" && doc.HeadComment == "" {
		doc.HeadComment = fileHead
	}
	if err := change(top.Content[1]); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(&doc), encoder.Close()); err != nil {
		return nil, fmt.Errorf("write the file of tokens: %w", err)
	}
	if _, err := parse(path, out.Bytes()); err != nil {
		return nil, fmt.Errorf("the file would have mistakes: %w", err)
	}
	return out.Bytes(), nil
}

// nodeOf returns the entry of a token.
func nodeOf(t *Token) (*yaml.Node, error) {
	type rule struct {
		Allow  []string `yaml:"allow,flow"`
		Prefix string   `yaml:"prefix"`
	}
	entry := struct {
		Name    string    `yaml:"name"`
		SHA256  string    `yaml:"sha256"`
		Expires yaml.Node `yaml:"expires"`
		Rules   []rule    `yaml:"rules"`
	}{Name: t.Name, SHA256: hex.EncodeToString(t.Hash[:]), Expires: yaml.Node{Kind: yaml.ScalarNode, Value: t.ExpiresText()}}
	for _, r := range t.Rules {
		entry.Rules = append(entry.Rules, rule{r.Allow.names(), r.Prefix})
	}
	node := &yaml.Node{}
	err := node.Encode(entry)
	return node, err
}

// replace replaces the file by one with text, which keeps the mode and, if that is allowed,
// the owner.
func replace(path string, text []byte) (err error) {
	mode := fs.FileMode(0o600)
	info, err := os.Stat(path)
	if err == nil {
		mode = info.Mode().Perm()
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".tokens-*")
	if err != nil {
		return fmt.Errorf("replace the file of tokens: %w", err)
	}
	defer func() {
		file.Close()
		if err != nil {
			_ = os.Remove(file.Name())
			err = fmt.Errorf("replace the file of tokens: %w", err)
		}
	}()
	if info != nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = file.Chown(int(owner.Uid), int(owner.Gid)) // only root may
		}
	}
	_, err = file.Write(text)
	if err = errors.Join(err, file.Chmod(mode), file.Sync()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
