package main
import ("context";"io")
func storeCommand(ctx context.Context, args []string, out io.Writer) error {return nil}
func growthCommand(ctx context.Context, args []string, out io.Writer) error {return nil}
