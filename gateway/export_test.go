package main

// Exported for the tests.
var (
	Main = main
	Run  = run
)
