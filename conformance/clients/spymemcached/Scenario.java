import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import net.spy.memcached.CASMutator;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.ConnectionFactoryBuilder.Locator;
import net.spy.memcached.ConnectionFactoryBuilder.Protocol;
import net.spy.memcached.FailureMode;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.auth.AuthDescriptor;
import net.spy.memcached.auth.PlainCallbackHandler;

/** spymemcached: text and binary, SASL. What session managers for Tomcat are built on. */
public final class Scenario {
    private static final long TIMEOUT_MS = 20_000;

    private static <T> T got(Future<T> future) throws Exception {
        return future.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
    }

    private static ConnectionFactoryBuilder factory(Protocol protocol) {
        return new ConnectionFactoryBuilder()
            .setProtocol(protocol)
            .setLocatorType(Locator.CONSISTENT)
            .setFailureMode(FailureMode.Redistribute)
            .setOpTimeout(TIMEOUT_MS)
            .setDaemon(true);
    }

    private static MemcachedClient client(ConnectionFactoryBuilder builder) throws Exception {
        List<InetSocketAddress> servers = new ArrayList<>();
        servers.add(new InetSocketAddress(Checks.HOST, Checks.PORT));
        return new MemcachedClient(builder.build(), servers);
    }

    /** Says whether the login went well. What is asked while it goes on may be cancelled. */
    private static boolean ready(MemcachedClient m) {
        for (int tries = 0; tries < 20; tries++) {
            try {
                if (m.set("ready", 0, "1").get(2_000, TimeUnit.MILLISECONDS)) {
                    return true;
                }
            } catch (Exception error) {
                // Not yet.
            }
        }
        return false;
    }

    private static void basics(Checks t, MemcachedClient m, boolean binary) throws Exception {
        t.call("flush", () -> got(m.flush()), true);
        t.call("get none", () -> m.get("a"), null);
        t.call("set", () -> got(m.set("a", Checks.FAR_S, "one")), true);
        t.call("get", () -> m.get("a"), "one");
        t.call("async get", () -> got(m.asyncGet("a")), "one");
        t.call("add there", () -> got(m.add("a", Checks.FAR_S, "two")), false);
        t.call("add", () -> got(m.add("b", Checks.FAR_S, "two")), true);
        t.call("replace", () -> got(m.replace("a", Checks.FAR_S, "three")), true);
        t.call("replace none", () -> got(m.replace("none", 0, "three")), false);
        t.call("append", () -> got(m.append("a", "4")), true);
        t.call("prepend", () -> got(m.prepend("a", "5")), true);
        t.call("append none", () -> got(m.append("none", "4")), false);
        t.call("joined", () -> m.get("a"), "5three4");
        t.call("set number", () -> got(m.set("n", Checks.FAR_S, "10")), true);
        t.call("incr", () -> m.incr("n", 5), 15L);
        t.call("decr", () -> m.decr("n", 3), 12L);
        t.call("decr below zero", () -> m.decr("n", 30), 0L);
        t.call("incr none", () -> m.incr("none", 1), -1L);
        t.call("decr none", () -> m.decr("none", 1), -1L);
        t.call("incr makes", () -> m.incr("made", 5, 100L), 100L);
        t.call("incr made", () -> m.incr("made", 5, 100L), 105L);
        t.call("incr makes for a time", () -> m.incr("made2", 5, 7L, Checks.FAR_S), 7L);
        t.call("decr makes", () -> m.decr("made3", 5, 9L, Checks.FAR_S), 9L);
        t.call("async incr", () -> got(m.asyncIncr("made", 5)), 110L);
        t.call("touch", () -> got(m.touch("b", Checks.FAR_S)), true);
        t.call("touch none", () -> got(m.touch("none", Checks.FAR_S)), false);
        if (binary) {
            t.call("get and touch", () -> m.getAndTouch("b", Checks.FAR_S).getValue(), "two");
            t.call("get and touch none", () -> m.getAndTouch("none", Checks.FAR_S), null);
        }
        t.call("born expired", () -> got(m.set("gone", 2_592_001, "x")), true);
        t.call("expired", () -> m.get("gone"), null);
        t.call("delete", () -> got(m.delete("a")), true);
        t.call("delete none", () -> got(m.delete("a")), false);
        for (int size : Checks.SIZES) {
            byte[] value = Checks.payload(size);
            t.call("set " + size + " bytes", () -> got(m.set("v", Checks.FAR_S, value)), true);
            t.call("get " + size + " bytes", () -> m.get("v"), value);
        }
        HashMap<String, Object> thing = new HashMap<>();
        thing.put("a", new ArrayList<>(List.of(1, 2.5, "ü")));
        t.call("set thing", () -> got(m.set("thing", Checks.FAR_S, thing)), true);
        t.call("get thing", () -> m.get("thing"), thing);
        for (Object value : new Object[] {5, 5L, 2.5, true, (byte) 3, "text"}) {
            String kind = value.getClass().getSimpleName();
            t.call(kind, () -> got(m.set("type", 0, value)) ? m.get("type") : null, value);
        }
        String text = "x".repeat(Checks.TOO_LARGE_BYTES);
        t.call("compressed", () -> got(m.set("z", Checks.FAR_S, text)), true);
        t.call("decompressed", () -> m.get("z").equals(text), true);
        String key = "k".repeat(250);
        t.call("longest key", () -> got(m.set(key, 0, "1")) ? m.get(key) : null, "1");
        t.fails("long key", () -> got(m.set(key + "k", 0, "1")));
        t.call("wide key", () -> got(m.set("schlüssel", 0, "1")) ? m.get("schlüssel") : null, "1");
    }

    private static void cas(Checks t, MemcachedClient m) throws Exception {
        got(m.set("c", Checks.FAR_S, "one"));
        CASValue<Object> found = m.gets("c");
        t.equal("gets", found.getValue(), "one");
        t.call("gets none", () -> m.gets("none"), null);
        t.call("cas", () -> m.cas("c", found.getCas(), Checks.FAR_S, "two"), CASResponse.OK);
        t.call("cas too late", () -> m.cas("c", found.getCas(), "three"), CASResponse.EXISTS);
        t.call("cas none", () -> m.cas("none", found.getCas(), "x"), CASResponse.NOT_FOUND);
        t.call("after cas", () -> m.get("c"), "two");
        CASMutator<Object> mutator = new CASMutator<>(m, m.getTranscoder());
        t.call("mutator", () -> mutator.cas("c", "first", 0, now -> now + "+"), "two+");
        t.call("mutator, new", () -> mutator.cas("c2", "first", 0, now -> now + "+"), "first");
    }

    private static void bulk(Checks t, MemcachedClient m) throws Exception {
        Map<String, Object> all = new TreeMap<>();
        List<Future<Boolean>> sets = new ArrayList<>();
        for (int i = 0; i < 500; i++) {
            all.put("m" + i, "v" + i);
            sets.add(m.set("m" + i, Checks.FAR_S, "v" + i));
        }
        int stored = 0;
        for (Future<Boolean> each : sets) {
            stored += got(each) ? 1 : 0;
        }
        t.equal("sets", stored, 500);
        List<String> keys = new ArrayList<>(all.keySet());
        keys.add("none");
        t.call("getBulk", () -> new TreeMap<>(m.getBulk(keys)), all);
        t.call("asyncGetBulk", () -> new TreeMap<>(got(m.asyncGetBulk(keys))), all);
        List<Future<Object>> gets = new ArrayList<>();
        for (String key : keys) {
            gets.add(m.asyncGet(key));
        }
        int right = 0;
        for (int i = 0; i < gets.size(); i++) {
            right += all.getOrDefault(keys.get(i), "").equals(got(gets.get(i))) ? 1 : 0;
        }
        t.equal("gets at once", right, 500);
        got(m.set("count", 0, "0"));
        List<Future<Long>> counts = new ArrayList<>();
        for (int i = 0; i < 300; i++) {
            counts.add(m.asyncIncr("count", 1));
        }
        for (Future<Long> each : counts) {
            got(each);
        }
        t.call("counted", () -> m.get("count"), "300");
        t.call("queues are empty", () -> m.waitForQueues(TIMEOUT_MS, TimeUnit.MILLISECONDS), true);
    }

    private static void administration(Checks t, MemcachedClient m) throws Exception {
        t.saw("versions", () -> m.getVersions().values());
        t.saw("stats", () -> Checks.names(m.getStats().values().iterator().next().keySet()));
        for (String report : new String[] {"settings", "items", "slabs", "sizes"}) {
            t.saw("stats " + report, () ->
                Checks.names(m.getStats(report).values().iterator().next().keySet()));
        }
        t.call("delayed flush", () -> got(m.flush(1000)), true);
        t.saw("not yet", () -> m.get("m9"));
        t.call("flush", () -> got(m.flush()), true);
        t.call("flushed", () -> m.get("m9"), null);
        t.call("servers", () -> m.getUnavailableServers().size(), 0);
    }

    /** Says whether a value can be set. How a refused login shows depends on when it is seen. */
    /** What is asked right behind a value that is too large is answered; in text it ends all. */
    private static void behind(Checks t, MemcachedClient m) throws Exception {
        got(m.set("small", Checks.FAR_S, "small"));
        for (int size : Checks.NARROW_SIZES) {
            Future<Boolean> large = m.set("large", Checks.FAR_S, Checks.payload(size));
            List<Future<Object>> asked = new ArrayList<>();
            for (int number = 0; number < 10; number++) {
                asked.add(m.asyncGet("small"));
            }
            t.call("set " + size, () -> large.get(5, TimeUnit.SECONDS), false);
            for (int number = 0; number < asked.size(); number++) {
                Future<Object> future = asked.get(number);
                t.call("get " + number + " behind " + size,
                    () -> future.get(5, TimeUnit.SECONDS), "small");
            }
        }
    }

    private static boolean stored(MemcachedClient m) {
        try {
            return m.set("a", 0, "1").get(500, TimeUnit.MILLISECONDS);
        } catch (Exception error) {
            return false;
        }
    }

    private static void logins(Checks t) throws Exception {
        String[][] tries = {
            {"wrong password", Checks.USER, Checks.PASSWORD + "x"},
            {"unknown user", "nobody", Checks.PASSWORD},
        };
        for (String[] each : tries) {
            AuthDescriptor login = new AuthDescriptor(
                new String[] {"PLAIN"}, new PlainCallbackHandler(each[1], each[2]));
            MemcachedClient m = client(factory(Protocol.BINARY)
                .setAuthDescriptor(login).setFailureMode(FailureMode.Cancel).setOpTimeout(500));
            t.call(each[0], () -> stored(m), false);
            m.shutdown();
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
        Logger.getLogger("net.spy").setLevel(Level.OFF);
        if (Checks.SETUP.equals("sasl")) {
            for (String mechanism : new String[] {"PLAIN", "CRAM-MD5"}) {
                AuthDescriptor login = new AuthDescriptor(
                    new String[] {mechanism},
                    new PlainCallbackHandler(Checks.USER, Checks.PASSWORD));
                MemcachedClient m = client(factory(Protocol.BINARY).setAuthDescriptor(login));
                Checks t = new Checks(mechanism);
                t.call("logged in", () -> ready(m), true);
                basics(t, m, true);
                cas(new Checks(mechanism + "-cas"), m);
                bulk(new Checks(mechanism + "-bulk"), m);
                // The last one: it takes back the login.
                t.saw("mechanisms", () -> new TreeSet<>(m.listSaslMechanisms()));
                m.shutdown();
            }
            logins(new Checks("login"));
            System.exit(0);
        }
        if (Checks.SETUP.equals("narrow")) {
            for (Protocol protocol : Protocol.values()) {
                // What is asked of a client that has died is waited for as long.
                MemcachedClient m = client(factory(protocol).setOpTimeout(5_000));
                new Checks(protocol == Protocol.BINARY ? "binary" : "text").narrow(
                    (key, value) -> m.set(key, Checks.FAR_S, value).get(5, TimeUnit.SECONDS),
                    (key, value) -> m.get(key));
                if (protocol == Protocol.BINARY) {
                    behind(new Checks("behind"), m);
                }
                m.shutdown();
            }
            System.exit(0);
        }
        for (Protocol protocol : Protocol.values()) {
            boolean binary = protocol == Protocol.BINARY;
            String name = binary ? "binary" : "text";
            MemcachedClient m = client(factory(protocol));
            basics(new Checks(name), m, binary);
            cas(new Checks(name + "-cas"), m);
            bulk(new Checks(name + "-bulk"), m);
            administration(new Checks(name + "-administration"), m);
            m.shutdown(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            MemcachedClient plain = client(factory(protocol).setShouldOptimize(true));
            bulk(new Checks(name + "-optimized"), plain);
            plain.shutdown(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        }
        System.exit(0);
    }
}
