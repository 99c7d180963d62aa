package access

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds a file of tokens. It has room for some ten thousand.
const maxFileBytes = 4 << 20

// A FileError lists the mistakes of a file of tokens.
type FileError struct {
	Path     string
	Mistakes []string // each with its line, and the name of its token
}

func (e *FileError) Error() string {
	return e.Path + " has mistakes:\n  " + strings.Join(e.Mistakes, "\n  ")
}

// Parse reads a file of tokens. The error names every mistake with its line. The text
// is YAML, up to the end of its last line:
//
//	tokens:
//	  - name: ci
//	    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//	    expires: 2027-01-31T00:00:00Z # or never
//	    rules:
//	      - allow: [read, write]
//	        prefix: app/
func Parse(text []byte) ([]*Token, error) {
	p := parser{names: map[string]int{}, hashes: map[[sha256.Size]byte]int{}}
	p.file(text)
	if len(p.mistakes) > 0 {
		return nil, &FileError{Mistakes: p.mistakes}
	}
	return p.tokens, nil
}

// parse is Parse with the path in its error.
func parse(path string, text []byte) ([]*Token, error) {
	tokens, err := Parse(text)
	var mistakes *FileError
	if errors.As(err, &mistakes) {
		mistakes.Path = path
	}
	return tokens, err
}

// A parser collects the tokens and the mistakes.
type parser struct {
	tokens   []*Token
	mistakes []string
	token    string // name of the current one
	names    map[string]int
	hashes   map[[sha256.Size]byte]int
}

// bad notes a mistake. It never includes a value of the file: mistakes are logged, and
// somebody may have put a token where its hash belongs.
func (p *parser) bad(n *yaml.Node, what string, err error) {
	where := fmt.Sprintf("line %d: ", n.Line)
	if p.token != "" {
		where += fmt.Sprintf("token %q: ", p.token)
	}
	if what != "" {
		where += what + ": "
	}
	p.mistakes = append(p.mistakes, where+err.Error())
}

var (
	errTop     = errors.New("must be a mapping with the member tokens, a list")
	errToken   = errors.New("must be a mapping with the members name, sha256, expires and rules")
	errRule    = errors.New("must be a mapping with the members allow and prefix")
	errMissing = errors.New("must be there")
	errTwice   = errors.New("is given twice")
	errUnknown = errors.New("is unknown")
	// "prefix: app/secret", half written, may read "prefix: app".
	errCut = errors.New("must end with the end of a line: the last one may not be whole")
)

func (p *parser) file(text []byte) {
	root, err := document(text)
	if err != nil {
		p.mistakes = append(p.mistakes, err.Error())
		return
	}
	// An empty file is a mistake, not a file without tokens: it is empty while an editor
	// rewrites it.
	top := p.mapping(root, "", errTop, "tokens")
	if top == nil {
		return
	}
	list := top["tokens"]
	if list.Kind != yaml.SequenceNode {
		p.bad(list, "tokens", errors.New("must be a list; [] for none"))
		return
	}
	for _, entry := range list.Content {
		p.entry(entry)
	}
	if len(p.mistakes) == 0 && text[len(text)-1] != '\n' {
		p.mistakes = append(p.mistakes, errCut.Error())
	}
}

// document returns the single YAML value in text.
func document(text []byte) (*yaml.Node, error) {
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("has more than %d bytes", maxFileBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("line 1: %w", errTop)
	case err != nil:
		return nil, syntaxError(err)
	case doc.Kind != yaml.DocumentNode || len(doc.Content) != 1:
		return nil, fmt.Errorf("line 1: %w", errTop)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("must be one document of YAML and no more")
	}
	return doc.Content[0], nil
}

// syntaxError keeps the line and what is wrong there. It cuts off the text that the library
// may quote.
func syntaxError(err error) error {
	text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "`")
	text, _, _ = strings.Cut(text, "'")
	return errors.New("is not valid YAML: " + strings.TrimSpace(text))
}

// mapping returns the members of a mapping that must have exactly these names. It returns nil
// after a mistake.
func (p *parser) mapping(n *yaml.Node, what string, form error, names ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		p.bad(n, what, form)
		return nil
	}
	before := len(p.mistakes)
	members := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		known := ""
		for _, candidate := range names {
			if name.Kind == yaml.ScalarNode && name.Value == candidate {
				known = candidate
			}
		}
		switch {
		case known == "":
			p.bad(name, what, fmt.Errorf("a member %w; the known ones are %s", errUnknown, strings.Join(names, ", ")))
		case members[known] != nil:
			p.bad(name, join(what, known), errTwice)
		default:
			members[known] = value
		}
	}
	for _, name := range names {
		if members[name] == nil {
			p.bad(n, join(what, name), errMissing)
		}
	}
	if len(p.mistakes) > before {
		return nil
	}
	return members
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// scalar returns the text of a node, or false for null, a list or the like, and for an alias:
// nothing in the file needs one.
func scalar(n *yaml.Node) (string, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null"
}

func (p *parser) entry(n *yaml.Node) {
	p.token = nameIn(n)
	defer func() { p.token = "" }()
	members := p.mapping(n, "", errToken, "name", "sha256", "expires", "rules")
	if members == nil {
		return
	}
	before := len(p.mistakes)
	t := &Token{}
	p.field(members["name"], "name", func(text string) (err error) {
		t.Name = text
		if err = CheckName(text); err == nil && p.names[text] > 0 {
			err = fmt.Errorf("is that of the token in line %d too", p.names[text])
		}
		return err
	})
	p.field(members["sha256"], "sha256", func(text string) (err error) {
		if t.Hash, err = parseHash(text); err == nil && p.hashes[t.Hash] > 0 {
			err = fmt.Errorf("is that of the token in line %d too", p.hashes[t.Hash])
		}
		return err
	})
	p.field(members["expires"], "expires", func(text string) (err error) {
		t.Expires, err = parseExpires(text)
		return err
	})
	t.Rules = p.rules(members["rules"])
	if len(p.mistakes) > before {
		return
	}
	if err := t.prepare(); err != nil {
		p.bad(members["rules"], "rules", err)
		return
	}
	p.names[t.Name], p.hashes[t.Hash] = n.Line, n.Line
	p.tokens = append(p.tokens, t)
}

// nameIn returns the name of a token if it has a valid one.
func nameIn(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if name, ok := scalar(n.Content[i+1]); ok && n.Content[i].Value == "name" && CheckName(name) == nil {
				return name
			}
		}
	}
	return ""
}

// field reads a text with parse and notes its mistake.
func (p *parser) field(n *yaml.Node, what string, parse func(string) error) {
	text, ok := scalar(n)
	err := errMissing
	if ok {
		err = parse(text)
	}
	if err != nil {
		p.bad(n, what, err)
	}
}

func (p *parser) rules(n *yaml.Node) (rules []Rule) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 || len(n.Content) > maxRules {
		p.bad(n, "rules", errRules)
		return nil
	}
	for i, entry := range n.Content {
		what := fmt.Sprintf("rules[%d]", i)
		members := p.mapping(entry, what, errRule, "allow", "prefix")
		if members == nil {
			continue
		}
		rule := Rule{Allow: p.rights(members["allow"], what+".allow")}
		p.field(members["prefix"], what+".prefix", func(text string) error {
			rule.Prefix = text
			return checkPrefix(text)
		})
		rules = append(rules, rule)
	}
	return rules
}

func (p *parser) rights(n *yaml.Node, what string) (rights Rights) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		p.bad(n, what, errRights)
		return 0
	}
	for _, element := range n.Content {
		right, ok := rightOf(element.Value)
		if !ok || element.Kind != yaml.ScalarNode {
			p.bad(element, what, errRights)
		}
		rights |= right
	}
	return rights
}
