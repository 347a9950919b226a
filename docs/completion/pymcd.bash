# Completion of pymcd for bash; made by `pymcd completion bash`.

_pymcd() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local tool="" words="" head=""
    COMPREPLY=()
    # bash takes `--name=word` for three words.
    if [[ $word == = ]]; then
        word=""
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    ((COMP_CWORD > 1)) && tool=${COMP_WORDS[1]}
    case $tool in
        completion) words="--help" ;;
        dump) words="--ca-file --cert --help --key --tls --user" ;;
        help) words="--help --man --markdown" ;;
        load) words="--ca-file --cert --help --key --overwrite --partial --skip --tls --user" ;;
        passwd) words="--help --iterations" ;;
        replication) words="--ca-file --cert --help --json --key --tls --user --wait" ;;
        size) words="--help --key" ;;
        witness) words="--cluster-id --help --listen --log-file --log-format --node-id --pidfile --replication-secret-file --replication-tls --state --user -P -o -u" ;;
    esac
    if [[ $words ]]; then
        [[ $tool == help ]] && words+=" completion dump help load passwd replication size witness"
        [[ $tool == completion ]] && words+=" bash zsh fish"
        COMPREPLY=($(compgen -W "$words" -- "$word"))
        if [[ ! $COMPREPLY && $word != -* && $tool != @(help|completion) ]]; then
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -f -A hostname -- "$word"))
        fi
        return
    fi
    case $before in
        --protocol|-B) words="auto ascii binary" ;;
        --replication-ack) words="async semi strict" ;;
        --log-format) words="text json" ;;
        --unix-socket|-s|--pidfile|-P|--memory-file|-e|--auth-file|-Y|--replication-secret-file|--fill-from-login-file|--fill-from-ca-file|--config|--log-file)
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -f -- "$word"))
            return
            ;;
        --user|-u)
            COMPREPLY=($(compgen -u -- "$word"))
            return
            ;;
        --listen|-l|--peer|-x|--replication-listen|--witness|--fill-from|--couchbase|--couchbase-name|--couchbase-peer|--http)
            COMPREPLY=($(compgen -A hostname -- "$word"))
            return
            ;;
        --extended|-o)
            # Several, with commas.
            [[ $word == *,* ]] && head=${word%,*},
            words="maxconns_fast no_maxconns_fast hot_lru_pct= warm_lru_pct= hot_max_factor= warm_max_factor= temporary_ttl= idle_timeout= slab_chunk_max= slab_sizes= track_sizes lru_crawler no_lru_crawler lru_crawler_sleep= lru_crawler_tocrawl= lru_maintainer no_lru_maintainer slab_reassign no_slab_reassign slab_automove no_slab_automove slab_automove_ratio= slab_automove_window= watcher_logbuf_size= worker_logbuf_size= ssl_chain_cert= ssl_key= ssl_keyformat= ssl_verify_mode= ssl_ciphers= ssl_ca_cert= ssl_wbuf_size= ssl_session_cache ssl_kernel_tls ssl_min_version= modern no_modern no_chunked_items memory_accounting= debug_commands hashpower no_hashexpand tail_repair_time hash_algorithm inline_ascii_resp no_inline_ascii_resp resp_obj_mem_limit read_buf_mem_limit drop_privileges no_drop_privileges relaxed_privileges sock_cookie_id slab_automove_freeratio"
            compopt -o nospace 2>/dev/null
            ;;
        --port|-p|--udp-port|-U|--unix-mask|-a|--listen-backlog|-b|--threads|-t|--napi-ids|-N|--memory-limit|-m|--max-item-size|-I|--slab-growth-factor|-f|--slab-min-size|-n|--conn-limit|-c|--max-reqs-per-event|-R|--prefix-delimiter|-D|--login-timeout|--login-failure-delay|--replication-port|--replication-ack-timeout|--replication-queue|--replication-backlog|--node-id|--cluster-id|--sync-timeout|--quorum-timeout|--tombstone-ttl|--drain-delay|--shutdown-timeout)
            return
            ;;
        *)
            words="--port= --udp-port= --unix-socket= --unix-mask= --listen= --listen-backlog= --daemon --pidfile= --user= --enable-coredumps --lock-memory --enable-largepages --threads= --napi-ids= --verbose --memory-limit= --disable-evictions --max-item-size= --slab-growth-factor= --slab-min-size= --memory-file= --conn-limit= --max-reqs-per-event= --disable-cas --protocol= --prefix-delimiter= --enable-shutdown --disable-flush-all --disable-dumping --disable-watch --enable-sasl --auth-file= --login-timeout= --login-failure-delay= --enable-ssl --peer= --replication-listen= --replication-port= --replication-secret-file= --replication-tls --replication-ack= --replication-ack-timeout= --replication-queue= --replication-backlog= --node-id= --cluster-id= --sync-timeout= --force-empty --witness= --quorum-timeout= --tombstone-ttl= --fill-from= --fill-from-login-file= --fill-from-tls --fill-from-ca-file= --couchbase= --couchbase-name= --couchbase-peer= --extended= --config= --log-file= --log-format= --http= --drain-delay= --shutdown-timeout= --help --license --version -p -U -s -a -l -b -d -P -u -r -k -L -t -N -v -m -M -I -f -n -e -c -R -C -B -D -A -F -X -W -S -Y -Z -x -o -h -i -V"
            [[ $tool ]] || words="serve completion dump help load passwd replication size witness $words"
            ;;
    esac
    COMPREPLY=($(compgen -P "$head" -W "$words" -- "${word#"$head"}"))
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *= ]] && compopt -o nospace 2>/dev/null
}

complete -F _pymcd pymcd
