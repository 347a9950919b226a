import com.couchbase.client.CouchbaseClient;
import com.couchbase.client.CouchbaseConnectionFactoryBuilder;
import java.net.URI;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import net.spy.memcached.FailureMode;

/**
 * Stores values that are too large, and asks for others right behind them.
 *
 * A line for each thing that is to be: "ok" or "not ok", and what. "saw": what came of the large ones.
 */
final class Narrow {
    private static final int[] SIZES = {1_100_000, 2_000_000, 8_000_000};
    private static final int TURNS = 2;
    private static final int GETS = 10;
    private static final long TIMEOUT_MS = 5_000;

    public static void main(String[] arguments) throws Exception {
        CouchbaseConnectionFactoryBuilder factory = new CouchbaseConnectionFactoryBuilder();
        factory.setOpTimeout(TIMEOUT_MS);
        factory.setFailureMode(FailureMode.Redistribute);
        List<URI> addresses = Collections.singletonList(new URI(arguments[0]));
        CouchbaseClient client =
            new CouchbaseClient(factory.buildCouchbaseConnection(addresses, "default", ""));
        check("set small", client.set("small", 0, "small"), true);
        for (int turn = 0; turn < TURNS; turn++) {
            for (int size : SIZES) {
                byte[] value = new byte[size];
                new Random(size).nextBytes(value);
                Future<Boolean> large = client.set("large", 0, value);
                List<Future<Object>> asked = new ArrayList<Future<Object>>();
                for (int number = 0; number < GETS; number++) {
                    asked.add(client.asyncGet("small"));
                }
                System.out.println("saw set " + size + ": " + got(large));
                for (Future<Object> future : asked) {
                    got(future);  // an error ends the connection, and what is asked with it
                }
                check("get after " + size, client.asyncGet("small"), "small");
            }
        }
        client.shutdown(1, TimeUnit.SECONDS);
        System.exit(0);
    }

    private static Object got(Future<?> future) {
        try {
            return future.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        } catch (Exception error) {
            return error.getClass().getSimpleName();
        }
    }

    private static void check(String name, Future<?> future, Object expected) {
        Object got = got(future);
        System.out.println(expected.equals(got) ? "ok " + name : "not ok " + name + ": " + got);
    }
}
