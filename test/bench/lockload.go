// lockload.go - the etcd side of lockload.c: etcd's own client library and
// its concurrency.Mutex, one session (lease) a client. The same output.
//
//	lockload pairs|handover CLIENTS SECONDS ENDPOINT...
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lockload:", err)
		os.Exit(1)
	}
}

func main() {
	handover := os.Args[1] == "handover"
	clients, err := strconv.Atoi(os.Args[2])
	check(err)
	seconds, err := strconv.ParseFloat(os.Args[3], 64)
	check(err)
	endpoints := os.Args[4:]

	var mutexes []*concurrency.Mutex
	for i := 0; i < clients; i++ {
		// as PostgreSQL's clients: each is connected to one server
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   endpoints[i%len(endpoints) : i%len(endpoints)+1],
			DialTimeout: 5 * time.Second,
		})
		check(err)
		session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
		check(err)
		key := "/lock/" + strconv.Itoa(i)
		if handover {
			key = "/lock/all"
		}
		mutexes = append(mutexes, concurrency.NewMutex(session, key))
	}

	base := time.Now()
	end := base.Add(time.Duration(seconds * float64(time.Second)))
	var released int64
	var wait sync.WaitGroup
	samples := make([][]int64, clients)
	for i := range mutexes {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			ctx := context.Background()
			for time.Now().Before(end) {
				begun := time.Since(base).Microseconds()
				check(mutexes[i].Lock(ctx))
				if handover {
					last := atomic.LoadInt64(&released)
					now := time.Since(base).Microseconds()
					if last > begun {
						samples[i] = append(samples[i], now-last)
					}
					atomic.StoreInt64(&released, time.Since(base).Microseconds())
				}
				check(mutexes[i].Unlock(ctx))
				if !handover {
					samples[i] = append(samples[i], time.Since(base).Microseconds()-begun)
				}
			}
		}(i)
	}
	wait.Wait()
	var all []int64
	for _, s := range samples {
		all = append(all, s...)
	}
	if len(all) == 0 {
		check(fmt.Errorf("no sample"))
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	fmt.Printf("%.0f %d %d\n", float64(len(all))/seconds, all[len(all)/2], all[len(all)*99/100])
}
