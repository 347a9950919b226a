import java.io.OutputStream;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import net.rubyeye.xmemcached.CASOperation;
import net.rubyeye.xmemcached.Counter;
import net.rubyeye.xmemcached.GetsResponse;
import net.rubyeye.xmemcached.MemcachedClient;
import net.rubyeye.xmemcached.XMemcachedClientBuilder;
import net.rubyeye.xmemcached.auth.AuthInfo;
import net.rubyeye.xmemcached.command.BinaryCommandFactory;
import net.rubyeye.xmemcached.command.TextCommandFactory;
import net.rubyeye.xmemcached.impl.KetamaMemcachedSessionLocator;

/** xmemcached: text and binary, several connections, SASL. */
public final class Scenario {
    // By its name: logins are looked up by that of the connection's other end.
    private static final InetSocketAddress SERVER = new InetSocketAddress(
        Checks.HOST.equals("127.0.0.1") ? "localhost" : Checks.HOST, Checks.PORT);

    private static XMemcachedClientBuilder builder(boolean binary) {
        XMemcachedClientBuilder builder = new XMemcachedClientBuilder(List.of(SERVER));
        builder.setCommandFactory(binary ? new BinaryCommandFactory() : new TextCommandFactory());
        builder.setSessionLocator(new KetamaMemcachedSessionLocator());
        // It waits for the login of the first connection alone.
        builder.setConnectionPoolSize(Checks.SETUP.equals("sasl") ? 1 : 2);
        builder.setOpTimeout(20_000);
        builder.setHealSessionInterval(50);
        return builder;
    }

    /** Returns whether the login went well. What is sent before it ended costs the connection. */
    private static boolean ready(MemcachedClient m) {
        for (int tries = 0; tries < 1_000; tries++) {
            try {
                if (m.set("ready", 0, "1", 2_000)) {
                    return true;
                }
                Thread.onSpinWait();
            } catch (Exception error) {
                Thread.yield();
            }
        }
        return false;
    }

    private static void basics(Checks t, MemcachedClient m, boolean binary) {
        t.done("flush", () -> m.flushAll());
        t.call("get none", () -> m.get("a"), null);
        t.call("set", () -> m.set("a", Checks.FAR_S, "one"), true);
        t.call("get", () -> m.get("a"), "one");
        t.call("add there", () -> m.add("a", Checks.FAR_S, "two"), false);
        t.call("add", () -> m.add("b", Checks.FAR_S, "two"), true);
        t.call("replace", () -> m.replace("a", Checks.FAR_S, "three"), true);
        t.call("replace none", () -> m.replace("none", 0, "three"), false);
        t.call("append", () -> m.append("a", "4"), true);
        t.call("prepend", () -> m.prepend("a", "5"), true);
        t.call("append none", () -> m.append("none", "4"), false);
        t.call("joined", () -> m.get("a"), "5three4");
        t.call("set number", () -> m.set("n", Checks.FAR_S, "10"), true);
        t.call("incr", () -> m.incr("n", 5), 15L);
        t.call("decr", () -> m.decr("n", 3), 12L);
        t.call("decr below zero", () -> m.decr("n", 30), 0L);
        // It adds a zero by itself.
        t.call("incr none", () -> m.incr("zero", 1), 0L);
        t.call("incr makes", () -> m.incr("made", 5, 100), 100L);
        t.call("incr made", () -> m.incr("made", 5, 100), 105L);
        t.call("decr makes", () -> m.decr("made2", 5, 9, 20_000, Checks.FAR_S), 9L);
        Counter counter = m.getCounter("counter", 3);
        t.call("counter", () -> counter.addAndGet(4), 7L);
        t.call("counter up", counter::incrementAndGet, 8L);
        t.call("counter down", counter::decrementAndGet, 7L);
        t.call("touch", () -> m.touch("b", Checks.FAR_S), true);
        t.call("touch none", () -> m.touch("none", Checks.FAR_S), false);
        if (binary) {
            t.call("get and touch", () -> m.getAndTouch("b", Checks.FAR_S), "two");
            t.call("get and touch none", () -> m.getAndTouch("none", Checks.FAR_S), null);
        }
        t.call("born expired", () -> m.set("gone", 2_592_001, "x"), true);
        t.call("expired", () -> m.get("gone"), null);
        t.call("delete", () -> m.delete("a"), true);
        t.call("delete none", () -> m.delete("a"), false);
        for (int size : Checks.SIZES) {
            if (size == 0) {
                continue;
            }
            byte[] value = Checks.payload(size);
            t.call("set " + size + " bytes", () -> m.set("v", Checks.FAR_S, value), true);
            t.call("get " + size + " bytes", () -> m.get("v"), value);
        }
        HashMap<String, Object> thing = new HashMap<>();
        thing.put("a", new ArrayList<>(List.of(1, 2.5, "ü")));
        t.call("set thing", () -> m.set("thing", Checks.FAR_S, thing), true);
        t.call("get thing", () -> m.get("thing"), thing);
        for (Object value : new Object[] {5, 5L, 2.5, true, (byte) 3, "text"}) {
            String kind = value.getClass().getSimpleName();
            t.call(kind, () -> m.set("type", 0, value) ? m.get("type") : null, value);
        }
        String key = "k".repeat(250);
        t.call("longest key", () -> m.set(key, 0, "1") ? m.get(key) : null, "1");
        t.fails("long key", () -> m.set(key + "k", 0, "1"));
        t.call("set text", () -> m.set("text", 0, "abc"), true);
        t.fails("incr text", () -> m.incr("text", 1));
        t.call("usable", () -> m.get("text"), "abc");
    }

    private static void cas(Checks t, MemcachedClient m) throws Exception {
        m.set("c", Checks.FAR_S, "one");
        GetsResponse<String> found = m.gets("c");
        t.equal("gets", found.getValue(), "one");
        t.call("gets none", () -> m.gets("none"), null);
        t.call("cas", () -> m.cas("c", Checks.FAR_S, "two", found.getCas()), true);
        t.call("cas too late", () -> m.cas("c", Checks.FAR_S, "three", found.getCas()), false);
        t.call("cas none", () -> m.cas("none", Checks.FAR_S, "three", found.getCas()), false);
        t.call("after cas", () -> m.get("c"), "two");
        t.call("cas by operation", () -> m.cas("c", Checks.FAR_S, new CASOperation<String>() {
            @Override
            public int getMaxTries() {
                return 3;
            }

            @Override
            public String getNewValue(long unique, String now) {
                return now + "+";
            }
        }), true);
        t.call("after operation", () -> m.get("c"), "two+");
        m.set("d", Checks.FAR_S, "four");
        Map<String, GetsResponse<String>> all = m.gets(List.of("c", "d", "none"));
        t.equal("gets of many", new TreeMap<>(all).keySet().toString(), "[c, d]");
    }

    private static void bulk(Checks t, MemcachedClient m) throws Exception {
        Map<String, Object> all = new TreeMap<>();
        for (int i = 0; i < 500; i++) {
            all.put("m" + i, "v" + i);
        }
        int stored = 0;
        for (Map.Entry<String, Object> each : all.entrySet()) {
            stored += m.set(each.getKey(), Checks.FAR_S, each.getValue()) ? 1 : 0;
        }
        t.equal("sets", stored, 500);
        List<String> keys = new ArrayList<>(all.keySet());
        keys.add("none");
        t.call("get of many", () -> new TreeMap<>(m.get(keys)), all);
        // Threads: the client merges their gets into one.
        m.set("count", Checks.FAR_S, "0");
        CountDownLatch finished = new CountDownLatch(8);
        int[] right = new int[8];
        for (int worker = 0; worker < 8; worker++) {
            int number = worker;
            new Thread(() -> {
                try {
                    for (int i = 0; i < 100; i++) {
                        String key = "m" + (i * 5 + number) % 500;
                        right[number] += all.get(key).equals(m.get(key)) ? 1 : 0;
                        m.incr("count", 1);
                    }
                } catch (Exception error) {
                    right[number] = -1000;
                } finally {
                    finished.countDown();
                }
            }).start();
        }
        finished.await();
        int sum = 0;
        for (int each : right) {
            sum += each;
        }
        t.equal("merged gets", sum, 800);
        t.call("counted", () -> m.get("count"), "800");
        m.withNamespace("space", client -> client.set("k", 0, "1"));
        t.call("namespace", () -> m.withNamespace("space", client -> client.get("k")), "1");
        t.done("invalidate", () -> m.invalidateNamespace("space"));
        t.call("invalidated", () -> m.withNamespace("space", client -> client.get("k")), null);
    }

    /** Over one connection: what is not answered is in order with what is. */
    private static void quiet(Checks t, boolean binary) throws Exception {
        XMemcachedClientBuilder builder = builder(binary);
        builder.setConnectionPoolSize(1);
        login(builder);
        MemcachedClient m = builder.build();
        t.call("ready", () -> ready(m), true);
        for (int i = 0; i < 100; i++) {
            m.setWithNoReply("q" + i, 0, "" + i);
        }
        m.addWithNoReply("q0", 0, "x");
        m.replaceWithNoReply("q1", 0, "r");
        m.appendWithNoReply("q2", "x");
        m.prependWithNoReply("q3", "x");
        m.incrWithNoReply("q4", 5);
        m.decrWithNoReply("q9", 5);
        m.deleteWithNoReply("q5");
        Map<String, Object> expected = new TreeMap<>(Map.of(
            "q0", "0", "q1", "r", "q2", "2x", "q3", "x3", "q4", "9", "q9", "4", "q99", "99"));
        List<String> keys = List.of("q0", "q1", "q2", "q3", "q4", "q5", "q9", "q99");
        t.call("after", () -> new TreeMap<>(m.get(keys)), expected);
        m.shutdown();
    }

    private static void administration(Checks t, MemcachedClient m, boolean binary) {
        if (!binary) { // There it now and then looks before the answer has been read: null.
            t.saw("versions", () -> m.getVersions().values());
        }
        t.saw("stats", () -> Checks.names(m.getStats().values().iterator().next().keySet()));
        for (String report : new String[] {"settings", "items", "slabs"}) {
            t.saw("stats " + report, () ->
                Checks.names(m.getStatsByItem(report).values().iterator().next().keySet()));
        }
        if (!binary) { // memcached 1.6.18 does not know that opcode, and is out of step after it.
            t.done("verbosity", () -> m.setLoggingLevelVerbosity(SERVER, 0));
        }
        t.done("flush", () -> m.flushAll());
        t.call("flushed", () -> m.get("m9"), null);
    }

    private static void login(XMemcachedClientBuilder builder) {
        if (Checks.SETUP.equals("sasl")) {
            builder.addAuthInfo(SERVER, AuthInfo.plain(Checks.USER, Checks.PASSWORD));
        }
    }

    private static void logins(Checks t) throws Exception {
        XMemcachedClientBuilder other = builder(true);
        other.addAuthInfo(SERVER, AuthInfo.cramMD5(Checks.USER, Checks.PASSWORD));
        MemcachedClient cram = other.build();
        // What it makes of the challenge is refused by Cyrus SASL.
        t.saw("CRAM-MD5", () -> ready(cram));
        cram.shutdown();
        for (String password : new String[] {Checks.PASSWORD + "x", ""}) {
            XMemcachedClientBuilder wrong = builder(true);
            wrong.addAuthInfo(SERVER, AuthInfo.plain(Checks.USER, password));
            wrong.setOpTimeout(500);
            MemcachedClient m = wrong.build();
            String name = password.isEmpty() ? "no password" : "wrong password";
            t.fails(name, () -> m.set("a", 0, "1"));
            m.shutdown();
        }
    }

    public static void main(String[] arguments) throws Exception {
        // Its logger has no quiet setting without another library.
        System.setErr(new PrintStream(OutputStream.nullOutputStream()));
        boolean sasl = Checks.SETUP.equals("sasl");
        for (boolean binary : sasl ? new boolean[] {true} : new boolean[] {false, true}) {
            String name = binary ? "binary" : "text";
            XMemcachedClientBuilder builder = builder(binary);
            login(builder);
            MemcachedClient m = builder.build();
            if (Checks.SETUP.equals("narrow")) {
                new Checks(name).narrow(
                    (key, value) -> m.set(key, Checks.FAR_S, value, 5_000),
                    (key, value) -> m.get(key));
                m.shutdown();
                continue;
            }
            new Checks(name).call("ready", () -> ready(m), true);
            basics(new Checks(name), m, binary);
            cas(new Checks(name + "-cas"), m);
            bulk(new Checks(name + "-bulk"), m);
            quiet(new Checks(name + "-noreply"), binary);
            administration(new Checks(name + "-administration"), m, binary);
            m.shutdown();
        }
        if (sasl) {
            logins(new Checks("login"));
        }
        System.exit(0);
    }
}
