// Command openapi makes the OpenAPI document of the service and checks answers
// against it.
//
//	openapi convert <swagger.json >openapi.json
//	openapi check openapi.json <exchanges
//
// The exchanges are contract.Exchange as JSON, one after the other.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"kvstore/internal/openapi/contract"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "convert":
		return convert(in, out)
	case len(args) == 2 && args[0] == "check":
		return check(args[1], in, out)
	default:
		return errors.New("usage: openapi convert | openapi check DOCUMENT")
	}
}

// check reads exchanges to their end and returns every violation at once.
func check(file string, in io.Reader, out io.Writer) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c, err := contract.New(document)
	if err != nil {
		return err
	}
	var violations []error
	decoder := json.NewDecoder(in)
	for n := 0; ; n++ {
		var exchange contract.Exchange
		switch err := decoder.Decode(&exchange); {
		case errors.Is(err, io.EOF):
			fmt.Fprintf(out, "openapi: %d answers checked against the document\n", n)
			return errors.Join(violations...)
		case err != nil:
			return fmt.Errorf("read exchange %d: %w", n+1, err)
		}
		if err := c.Check(exchange); err != nil {
			violations = append(violations, err)
		}
	}
}
