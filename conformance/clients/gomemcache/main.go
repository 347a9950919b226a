// gomemcache: the text protocol from Go, over plain TCP and TLS.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

const (
	farSeconds    = 100000
	tooLargeBytes = 2000000
)

var prefix string

func brief(text string) string {
	text = strings.NewReplacer("\r", "\\r", "\n", "\\n").Replace(text)
	if len(text) > 200 {
		return fmt.Sprintf("%s... %d", text[:100], len(text))
	}
	return text
}

func equal(name string, got, expected any) {
	if g, e := fmt.Sprint(got), fmt.Sprint(expected); g == e {
		fmt.Printf("ok %s%s\n", prefix, name)
	} else {
		fmt.Printf("not ok %s%s: %s, not %s\n", prefix, name, brief(g), brief(e))
	}
}

// done checks that there was no error.
func done(name string, err error) { equal(name, err, nil) }

// refused checks that the error is the expected kind of error.
func refused(name string, err, kind error) {
	if errors.Is(err, kind) {
		fmt.Printf("ok %s%s\n", prefix, name)
	} else {
		fmt.Printf("not ok %s%s: %v, not %v\n", prefix, name, err, kind)
	}
}

func saw(name string, what any) { fmt.Printf("saw %s%s: %s\n", prefix, name, brief(fmt.Sprint(what))) }

func item(key, value string) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value)}
}

func payload(size int) []byte {
	value := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(value)
	return value
}

func get(name string, c *memcache.Client, key, expected string) {
	found, err := c.Get(key)
	if err != nil {
		equal(name, err, expected)
		return
	}
	equal(name, string(found.Value), expected)
}

func basics(c *memcache.Client) {
	done("ping", c.Ping())
	done("flush", c.FlushAll())
	_, err := c.Get("a")
	refused("get none", err, memcache.ErrCacheMiss)
	done("set", c.Set(&memcache.Item{Key: "a", Value: []byte("1"), Flags: 4294967295}))
	found, err := c.Get("a")
	done("get", err)
	equal("value", string(found.Value), "1")
	equal("flags", found.Flags, uint32(4294967295))
	refused("add there", c.Add(item("a", "2")), memcache.ErrNotStored)
	done("add", c.Add(item("b", "2")))
	done("replace", c.Replace(item("a", "3")))
	refused("replace none", c.Replace(item("none", "3")), memcache.ErrNotStored)
	done("append", c.Append(item("a", "4")))
	done("prepend", c.Prepend(item("a", "5")))
	refused("append none", c.Append(item("none", "4")), memcache.ErrNotStored)
	refused("prepend none", c.Prepend(item("none", "4")), memcache.ErrNotStored)
	get("joined", c, "a", "534")
	n, err := c.Increment("a", 7)
	equal("increment", fmt.Sprint(n, err), "541 <nil>")
	n, err = c.Decrement("a", 40)
	equal("decrement", fmt.Sprint(n, err), "501 <nil>")
	n, err = c.Decrement("a", 4000)
	equal("decrement below zero", fmt.Sprint(n, err), "0 <nil>")
	_, err = c.Increment("none", 1)
	refused("increment none", err, memcache.ErrCacheMiss)
	done("set text", c.Set(item("text", "abc")))
	_, err = c.Increment("text", 1)
	equal("increment text", err != nil, true)
	saw("increment text", err)
	get("usable", c, "text", "abc")
	done("touch", c.Touch("b", farSeconds))
	refused("touch none", c.Touch("none", farSeconds), memcache.ErrCacheMiss)
	found, err = c.GetAndTouch("b", farSeconds)
	equal("get and touch", fmt.Sprint(string(found.Value), " ", err), "2 <nil>")
	_, err = c.GetAndTouch("none", farSeconds)
	refused("get and touch none", err, memcache.ErrCacheMiss)
	done("touch to the past", c.Touch("b", -1))
	_, err = c.Get("b")
	refused("touched away", err, memcache.ErrCacheMiss)
	done("born expired", c.Set(&memcache.Item{Key: "gone", Value: []byte("x"), Expiration: -1}))
	_, err = c.Get("gone")
	refused("expired", err, memcache.ErrCacheMiss)
	done("delete", c.Delete("a"))
	refused("delete none", c.Delete("a"), memcache.ErrCacheMiss)
	for _, size := range []int{0, 1, 4095, 70000, 600000, 1048000} {
		value := payload(size)
		done(fmt.Sprintf("set %d bytes", size), c.Set(&memcache.Item{Key: "v", Value: value}))
		found, err := c.Get("v")
		equal(fmt.Sprintf("get %d bytes", size), err == nil && bytes.Equal(found.Value, value), true)
	}
	key := strings.Repeat("k", 250)
	done("longest key", c.Set(item(key, "1")))
	get("get of longest key", c, key, "1")
	refused("long key", c.Set(item(key+"k", "1")), memcache.ErrMalformedKey)
	done("set large", c.Set(item("large", "old")))
	err = c.Set(&memcache.Item{Key: "large", Value: payload(tooLargeBytes)})
	equal("too large", err != nil, true)
	saw("too large", err)
	_, err = c.Get("large")
	refused("old value gone", err, memcache.ErrCacheMiss)
}

func cas(c *memcache.Client) {
	done("set", c.Set(item("c", "one")))
	first, _ := c.Get("c")
	second, _ := c.Get("c")
	first.Value = []byte("two")
	done("cas", c.CompareAndSwap(first))
	second.Value = []byte("three")
	refused("cas too late", c.CompareAndSwap(second), memcache.ErrCASConflict)
	get("after cas", c, "c", "two")
	done("delete", c.Delete("c"))
	refused("cas none", c.CompareAndSwap(second), memcache.ErrCacheMiss)
}

func crowd(c *memcache.Client) {
	var keys []string
	for i := 0; i < 500; i++ {
		keys = append(keys, "m"+strconv.Itoa(i))
	}
	failed := 0
	for _, key := range keys {
		if c.Set(item(key, key)) != nil {
			failed++
		}
	}
	equal("sets", failed, 0)
	found, err := c.GetMulti(append(keys, "none"))
	done("get many", err)
	right := 0
	for key, each := range found {
		if key == string(each.Value) {
			right++
		}
	}
	equal("got many", fmt.Sprint(right, len(found)), "500 500")
	done("set count", c.Set(item("count", "0")))
	var group sync.WaitGroup
	var lock sync.Mutex
	won, swapped := 0, 0
	done("set shared", c.Set(item("shared", "0")))
	for worker := 0; worker < 16; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < 50; i++ {
				c.Increment("count", 1)
				if c.Add(item("once"+strconv.Itoa(i), "x")) == nil {
					lock.Lock()
					won++
					lock.Unlock()
				}
			}
			for tries := 0; tries < 100000; tries++ {
				shared, err := c.Get("shared")
				if err != nil {
					return
				}
				n, _ := strconv.Atoi(string(shared.Value))
				shared.Value = []byte(strconv.Itoa(n + 1))
				if c.CompareAndSwap(shared) == nil {
					lock.Lock()
					swapped++
					lock.Unlock()
					return
				}
			}
		}()
	}
	group.Wait()
	get("counted", c, "count", "800")
	equal("one add in 16 won", won, 50)
	equal("each cas won once", swapped, 16)
	get("and counted", c, "shared", "16")
	done("delete all", c.DeleteAll())
	_, err = c.Get("count")
	refused("deleted all", err, memcache.ErrCacheMiss)
}

func main() {
	if len(os.Args) > 1 {
		info, _ := debug.ReadBuildInfo()
		fmt.Println(info.Deps[0].Version)
		return
	}
	address := net.JoinHostPort(os.Getenv("MEMCACHED_HOST"), os.Getenv("MEMCACHED_PORT"))
	client := memcache.New(address)
	client.Timeout = 20 * time.Second
	client.MaxIdleConns = 16
	if os.Getenv("MEMCACHED_SETUP") == "tls" {
		pem, err := os.ReadFile(os.Getenv("MEMCACHED_CA"))
		if err != nil {
			panic(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots}}
		client.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		}
	}
	prefix = "basics: "
	basics(client)
	prefix = "cas: "
	cas(client)
	prefix = "crowd: "
	crowd(client)
	client.Close()
}
