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
	tokens, err := Parse(text)
	var mistakes *FileError
	if errors.As(err, &mistakes) {
		mistakes.Path = path
	}
	return tokens, err
}

// Add appends a token to the file, which is made if it is not there, with the mode
// 0600. A file without mistakes is replaced in one step by another one, comments
// included, which is on the disk then; or it stays as it is and an error tells why.
func Add(path string, t *Token) error {
	return edit(path, true, func(list *yaml.Node) error {
		for _, entry := range list.Content {
			if nameIn(entry) == t.Name {
				return fmt.Errorf("there is a token %q already; revoke it or take another name", t.Name)
			}
		}
		list.Style = 0 // no longer []
		list.Content = append(list.Content, nodeOf(t))
		return nil
	})
}

// Remove takes a token out of the file, in the same way.
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

// edit changes the list of tokens. Edits at the same time come one after the other.
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
	if text, err = changed(text, change); err != nil {
		var mistakes *FileError
		if errors.As(err, &mistakes) {
			mistakes.Path = path
		}
		return err
	}
	if err := replace(path, text); err != nil {
		return err
	}
	// Else a token that was revoked could be back after a power failure.
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir.Name(), err)
	}
	return nil
}

// target follows links, so that the file and not a link to it is replaced.
func target(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	return resolved, err
}

// changed returns the text after the change. Neither before nor after it may have
// mistakes.
func changed(text []byte, change func(list *yaml.Node) error) ([]byte, error) {
	if _, err := Parse(text); err != nil {
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
	if _, err := Parse(out.Bytes()); err != nil {
		return nil, fmt.Errorf("the file would have mistakes: %w", err)
	}
	return out.Bytes(), nil
}

// nodeOf is the entry of a token.
func nodeOf(t *Token) *yaml.Node {
	rules := &yaml.Node{Kind: yaml.SequenceNode}
	for _, r := range t.Rules {
		allow := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, name := range r.Allow.names() {
			allow.Content = append(allow.Content, text(name))
		}
		rules.Content = append(rules.Content, mappingOf("allow", allow, "prefix", text(r.Prefix)))
	}
	return mappingOf("name", text(t.Name), "sha256", text(hex.EncodeToString(t.Hash[:])), "expires", plain(t.ExpiresText()), "rules", rules)
}

func mappingOf(members ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, member := range members {
		switch m := member.(type) {
		case string:
			n.Content = append(n.Content, text(m))
		case *yaml.Node:
			n.Content = append(n.Content, m)
		}
	}
	return n
}

// text is a string, in quotes where it could be taken for something else.
func text(value string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(value)
	return n
}

func plain(value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: value} }

// replace puts text into the place of the file, with its mode and, if that is
// allowed, its owner.
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
