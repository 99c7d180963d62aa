package main

import (
	"context"
	"errors"
	"net"
	"time"
)

// delayCommand is the argument that makes this program a connection with a longer round trip.
const delayCommand = "delay"

// delayServer passes on what comes in order, each direction later by half the delay, until ctx ends. The
// arguments are the address to listen on, that of the server, and the delay.
func delayServer(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New(delayCommand + ": want ADDRESS SERVER DELAY")
	}
	delay, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", args[0])
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	for {
		client, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		server, err := new(net.Dialer).DialContext(ctx, "tcp", args[1])
		if err != nil {
			client.Close()
			continue
		}
		go passLater(server, client, delay/2)
		go passLater(client, server, delay/2)
	}
}

// passLater copies from one connection to another, and closes both at the end.
func passLater(to, from net.Conn, delay time.Duration) {
	defer to.Close()
	defer from.Close()
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				pieces <- piece{time.Now().Add(delay), append([]byte(nil), buffer[:n]...)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	from.Close()       // ends the reader
	for range pieces { // nobody wants the rest
	}
}
