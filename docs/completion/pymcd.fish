# Completion of pymcd for fish; made by `pymcd completion fish`.

complete -c pymcd -n '__fish_is_nth_token 1' -f -a serve -d 'a command line of the server'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a completion -d 'print the script by which bash, zsh or fish completes the words of pymcd'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a dump -d 'write the items of a server, a memcached or a pymcd, to a file'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a help -d 'this help; with the name of a tool, that of the tool'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a load -d 'store the items of such a file in a server'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a passwd -d 'write a user'"'"'s password, hashed, into a file for -Y'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a replication -d 'how a pair is doing: who coordinates, whether all are in sync, or why not'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a size -d 'which -m, and how much memory, so many sessions need'
complete -c pymcd -n '__fish_is_nth_token 1' -f -a witness -d 'be the third vote of a pair'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s p -l port -x -d 'TCP port'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s U -l udp-port -x -d 'UDP port'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s s -l unix-socket -r -F -d 'Unix socket'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s a -l unix-mask -x -d 'access to the Unix socket, octal'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s l -l listen -x -a '(__fish_print_hostnames)' -d 'address to listen on'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s b -l listen-backlog -x -d 'connections that may wait to be accepted'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s d -l daemon -f -d 'run in the background'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s P -l pidfile -r -F -d 'write the process id to FILE, with -d'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s u -l user -x -a '(__fish_complete_users)' -d 'user to become, needed when started by root'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s r -l enable-coredumps -f -d 'raise the limit on core files'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s k -l lock-memory -f -d 'accepted, has no effect'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s L -l enable-largepages -f -d 'accepted, has no effect'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s t -l threads -x -d 'accepted and reported'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s N -l napi-ids -x -d 'accepted, has no effect'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s v -l verbose -f -d 'say more'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s m -l memory-limit -x -d 'memory for items in megabytes'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s M -l disable-evictions -f -d 'answer with an error when memory is full'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s I -l max-item-size -x -d 'largest item, with suffix k or m'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s f -l slab-growth-factor -x -d 'growth of chunk sizes'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s n -l slab-min-size -x -d 'least space for key, value and flags'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s e -l memory-file -r -F -d 'accepted, has no effect'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s c -l conn-limit -x -d 'most connections at a time'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s R -l max-reqs-per-event -x -d 'requests that one connection may make in a turn'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s C -l disable-cas -f -d 'keep no cas unique'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s B -l protocol -x -a 'auto ascii binary' -d 'auto, ascii or binary'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s D -l prefix-delimiter -x -d 'character that ends a key'"'"'s prefix'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s A -l enable-shutdown -f -d 'allow the shutdown command'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s F -l disable-flush-all -f -d 'refuse the flush_all command'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s X -l disable-dumping -f -d 'refuse stats cachedump, stats detail and lru_crawler metadump'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s W -l disable-watch -f -d 'refuse the watch command'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s S -l enable-sasl -f -d 'demand a SASL login'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s Y -l auth-file -r -F -d 'demand a login'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l login-timeout -x -d 'close connections that have not logged in by then'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l login-failure-delay -x -d 'answer a failed login only after this time'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s Z -l enable-ssl -f -d 'speak TLS'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s x -l peer -x -a '(__fish_print_hostnames)' -d 'replicate with the server at this address'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-listen -x -a '(__fish_print_hostnames)' -d 'address where peers connect'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-port -x -d 'port where peers connect'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-secret-file -r -F -d 'file with the secret that all nodes share, read again on SIGHUP'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-tls -f -d 'speak TLS with peers, with certificates on both sides'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-ack -x -a 'async semi strict' -d 'when a write is answered'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-ack-timeout -x -d 'how long to wait for a peer before going on without it'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-queue -x -d 'changes that may wait for a peer, with suffix k or m'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l replication-backlog -x -d 'memory for recent changes, which spare a peer that was away a full copy, with suffix k, m or g'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l node-id -x -d 'name of this server among its peers'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l cluster-id -x -d 'name of the group'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l sync-timeout -x -d 'serve clients after this time at the latest if no peer is found at the start'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l force-empty -f -d 'with --sync-timeout'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l witness -x -a '(__fish_print_hostnames)' -d 'the third vote, see pymcd witness'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l quorum-timeout -x -d 'where there are votes'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l tombstone-ttl -x -d 'how long deletions are remembered, and longer while a peer is away'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l fill-from -x -a '(__fish_print_hostnames)' -d 'take over the items of a running memcached or pymcd, those used last first, while clients are served'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l fill-from-login-file -r -F -d 'file with the login that it wants, a line user'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l fill-from-tls -f -d 'speak TLS with it'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l fill-from-ca-file -r -F -d 'speak TLS with it'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l couchbase -x -a '(__fish_print_hostnames)' -d 'serve clients of Couchbase, too'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l couchbase-name -x -a '(__fish_print_hostnames)' -d 'this host as those clients call it'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l couchbase-peer -x -a '(__fish_print_hostnames)' -d 'the peer as those clients call it, its port for clients and that of its --couchbase'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s o -l extended -x -a 'maxconns_fast no_maxconns_fast hot_lru_pct= warm_lru_pct= hot_max_factor= warm_max_factor= temporary_ttl= idle_timeout= slab_chunk_max= slab_sizes= track_sizes lru_crawler no_lru_crawler lru_crawler_sleep= lru_crawler_tocrawl= lru_maintainer no_lru_maintainer slab_reassign no_slab_reassign slab_automove no_slab_automove slab_automove_ratio= slab_automove_window= watcher_logbuf_size= worker_logbuf_size= ssl_chain_cert= ssl_key= ssl_keyformat= ssl_verify_mode= ssl_ciphers= ssl_ca_cert= ssl_wbuf_size= ssl_session_cache ssl_kernel_tls ssl_min_version= modern no_modern no_chunked_items memory_accounting= debug_commands hashpower no_hashexpand tail_repair_time hash_algorithm inline_ascii_resp no_inline_ascii_resp resp_obj_mem_limit read_buf_mem_limit drop_privileges no_drop_privileges relaxed_privileges sock_cookie_id slab_automove_freeratio' -d 'further settings, with commas or repeated'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l config -r -F -d 'read options from FILE'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l log-file -r -F -d 'write the log to FILE'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l log-format -x -a 'text json' -d 'text or json'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l http -x -a '(__fish_print_hostnames)' -d 'answer /healthz, /readyz, /metrics and /replication by HTTP'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l drain-delay -x -d 'when told to stop, first go on for that time while /readyz says that no client may come'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -l shutdown-timeout -x -d 'then, time to finish requests in hand'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s h -l help -f -d 'print this help and exit'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s i -l license -f -d 'print the licence and exit'
complete -c pymcd -n 'not __fish_seen_subcommand_from completion dump help load passwd replication size witness' -s V -l version -f -d 'print the version and exit'
complete -c pymcd -n '__fish_seen_subcommand_from completion' -l help
complete -c pymcd -n '__fish_seen_subcommand_from dump' -l ca-file
complete -c pymcd -n '__fish_seen_subcommand_from dump' -l cert
complete -c pymcd -n '__fish_seen_subcommand_from dump' -l help
complete -c pymcd -n '__fish_seen_subcommand_from dump' -l key
complete -c pymcd -n '__fish_seen_subcommand_from dump' -l tls
complete -c pymcd -n '__fish_seen_subcommand_from dump' -l user
complete -c pymcd -n '__fish_seen_subcommand_from help' -l help
complete -c pymcd -n '__fish_seen_subcommand_from help' -l man
complete -c pymcd -n '__fish_seen_subcommand_from help' -l markdown
complete -c pymcd -n '__fish_seen_subcommand_from load' -l ca-file
complete -c pymcd -n '__fish_seen_subcommand_from load' -l cert
complete -c pymcd -n '__fish_seen_subcommand_from load' -l help
complete -c pymcd -n '__fish_seen_subcommand_from load' -l key
complete -c pymcd -n '__fish_seen_subcommand_from load' -l overwrite
complete -c pymcd -n '__fish_seen_subcommand_from load' -l partial
complete -c pymcd -n '__fish_seen_subcommand_from load' -l skip
complete -c pymcd -n '__fish_seen_subcommand_from load' -l tls
complete -c pymcd -n '__fish_seen_subcommand_from load' -l user
complete -c pymcd -n '__fish_seen_subcommand_from passwd' -l help
complete -c pymcd -n '__fish_seen_subcommand_from passwd' -l iterations
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l ca-file
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l cert
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l help
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l json
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l key
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l tls
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l user
complete -c pymcd -n '__fish_seen_subcommand_from replication' -l wait
complete -c pymcd -n '__fish_seen_subcommand_from size' -l help
complete -c pymcd -n '__fish_seen_subcommand_from size' -l key
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l cluster-id
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l help
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l listen
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l log-file
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l log-format
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l node-id
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l pidfile
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l replication-secret-file
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l replication-tls
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l state
complete -c pymcd -n '__fish_seen_subcommand_from witness' -l user
complete -c pymcd -n '__fish_seen_subcommand_from witness' -s P
complete -c pymcd -n '__fish_seen_subcommand_from witness' -s o
complete -c pymcd -n '__fish_seen_subcommand_from witness' -s u
complete -c pymcd -n '__fish_seen_subcommand_from help' -f -a 'completion dump help load passwd replication size witness'
complete -c pymcd -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'
