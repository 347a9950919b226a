import java.util.Arrays;
import java.util.Objects;
import java.util.Random;
import java.util.TreeSet;
import java.util.concurrent.Callable;

/** What the programs in Java share: where the server is, and how a check is told. */
final class Checks {
    static final String HOST = System.getenv("MEMCACHED_HOST");
    static final int PORT = Integer.parseInt(System.getenv("MEMCACHED_PORT"));
    static final String SETUP = System.getenv("MEMCACHED_SETUP");
    static final String USER = System.getenv("MEMCACHED_USER");
    static final String PASSWORD = System.getenv("MEMCACHED_PASSWORD");
    static final int FAR_S = 100_000;
    static final int[] SIZES = {0, 1, 4_095, 70_000, 600_000, 1_048_000};
    static final int TOO_LARGE_BYTES = 2_000_000;
    /** Of setup "narrow": larger than an item may be by little, by more, by far. */
    static final int[] NARROW_SIZES = {1_100_000, 2_000_000, 8_000_000};
    private static final int ATTEMPTS = 30;

    /** An operation that returns nothing. */
    interface Step {
        void run() throws Exception;
    }

    private final String prefix;

    Checks(String prefix) {
        this.prefix = prefix + ": ";
    }

    private static String brief(Object value) {
        String text = String.valueOf(value).replace("\r", "\\r").replace("\n", "\\n");
        int length = text.length();
        return length <= 200 ? text : text.substring(0, 100) + "... " + length;
    }

    private static synchronized void tell(String line) {
        System.out.println(line);
        System.out.flush();
    }

    void equal(String name, Object got, Object expected) {
        if (Objects.deepEquals(got, expected)) {
            tell("ok " + prefix + name);
        } else {
            tell("not ok " + prefix + name + ": " + brief(got) + ", not " + brief(expected));
        }
    }

    /** Checks what an operation returns; an error fails the check and no more. */
    void call(String name, Callable<?> operation, Object expected) {
        try {
            equal(name, operation.call(), expected);
        } catch (Exception error) {
            tell("not ok " + prefix + name + ": " + brief(error));
        }
    }

    /** Checks that an operation goes without an error. */
    void done(String name, Step operation) {
        try {
            operation.run();
            tell("ok " + prefix + name);
        } catch (Exception error) {
            tell("not ok " + prefix + name + ": " + brief(error));
        }
    }

    /** Checks that an operation throws, and shows what the innermost error says. */
    void fails(String name, Callable<?> operation) {
        try {
            tell("not ok " + prefix + name + ": " + brief(operation.call()) + ", no error");
        } catch (Exception error) {
            Throwable inner = error;
            while (inner.getCause() != null) {
                inner = inner.getCause();
            }
            tell("ok " + prefix + name);
            tell("saw " + prefix + name + ": " + inner.getClass().getSimpleName());
        }
    }

    void saw(String name, Callable<?> operation) {
        String what;
        try {
            what = brief(operation.call());
        } catch (Exception error) {
            what = error.getClass().getSimpleName();
        }
        tell("saw " + prefix + name + ": " + what);
    }

    /** Does something again and again until it returns what is expected, or was done often enough. */
    private static Object attempted(Callable<?> operation, Object expected) throws Exception {
        Object got = null;
        for (int number = 0; number < ATTEMPTS && !Objects.equals(got, expected); number++) {
            if (number > 0) {
                Thread.sleep(1_000);
            }
            try {
                got = operation.call();
            } catch (Exception error) {
                got = error;
            }
        }
        return got;
    }

    /** One operation of a client with a key and a value. */
    interface Operation {
        Object of(String key, Object value) throws Exception;
    }

    /** Stores values that are too large; a client must go on afterwards as if nothing were. */
    void narrow(Operation set, Operation get) throws Exception {
        for (int size : NARROW_SIZES) {
            byte[] value = payload(size);
            set.of("large", "old");
            saw("set " + size, () -> set.of("large", value));
            for (int number = 0; number < 3; number++) {
                String key = size + "-" + number;
                call("set " + number + " after " + size,
                    () -> attempted(() -> set.of(key, "small"), true), true);
                call("get " + number + " after " + size,
                    () -> attempted(() -> get.of(key, null), "small"), "small");
            }
            saw("get after " + size, () -> get.of("large", null));
        }
    }

    /** Bytes that do not compress, the same for the same size. */
    static byte[] payload(int size) {
        byte[] value = new byte[size];
        new Random(size).nextBytes(value);
        return value;
    }

    /** Names of statistics, without class numbers: which has items depends on who looked. */
    static Object names(Iterable<String> keys) {
        TreeSet<String> found = new TreeSet<>();
        for (String each : keys) {
            found.add(each.replaceAll("\\d+:", ""));
        }
        return found;
    }

    static <T> Object list(T[] values) {
        return Arrays.asList(values);
    }
}
