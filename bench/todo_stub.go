package main
import ("context";"io")
func growthCommand(ctx context.Context, args []string, out io.Writer) error {return nil}
