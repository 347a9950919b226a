import com.couchbase.client.CouchbaseClient;
import com.couchbase.client.CouchbaseConnectionFactoryBuilder;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import net.spy.memcached.FailureMode;

/**
 * Works with a bucket until standard input ends, and tells of each request.
 *
 * The client is made as memcached-session-manager makes it. Each thread counts in keys of its own:
 * it sets one, and reads the one that it set longest ago. A line for each request: "set" or "get", key, number, outcome, and
 * when it began and ended, in nanoseconds of the monotonic clock. "get" has the number that was
 * found, -1 for a miss.
 */
final class Worker {
    private static final long PAUSE_MS = 10;
    private static final int KEYS = 7;
    private static volatile boolean stopping;

    public static void main(String[] arguments) throws Exception {
        List<URI> addresses = new ArrayList<URI>();
        for (String address : arguments[0].split(",")) {
            addresses.add(new URI(address));
        }
        String bucket = arguments[1];
        String password = arguments[2];
        int threads = Integer.parseInt(arguments[3]);
        long timeoutMs = Long.parseLong(arguments[4]);

        long began = System.nanoTime();
        CouchbaseConnectionFactoryBuilder factory = new CouchbaseConnectionFactoryBuilder();
        factory.setOpTimeout(timeoutMs);
        factory.setMaxReconnectDelay(30);
        factory.setFailureMode(FailureMode.Redistribute);
        final CouchbaseClient client;
        try {
            client = new CouchbaseClient(
                factory.buildCouchbaseConnection(addresses, bucket, password));
        } catch (Exception error) {
            System.out.println("failed " + words(error));
            System.exit(1);
            return;
        }
        System.out.println("ready " + (System.nanoTime() - began));
        List<Thread> workers = new ArrayList<Thread>();
        for (int number = 0; number < threads; number++) {
            final String name = "worker" + number;
            Thread worker = new Thread(new Runnable() {
                @Override
                public void run() {
                    work(client, name);
                }
            });
            workers.add(worker);
            worker.start();
        }
        while (System.in.read() >= 0) {
            continue;
        }
        stopping = true;
        for (Thread worker : workers) {
            worker.join();
        }
        client.shutdown(1, TimeUnit.SECONDS);
        System.exit(0);
    }

    private static void work(CouchbaseClient client, String name) {
        for (int number = 1; !stopping; number++) {
            String key = name + "-" + number % KEYS;
            long began = System.nanoTime();
            String outcome;
            try {
                outcome = client.set(key, 0, String.valueOf(number)).get() ? "ok" : "refused";
            } catch (Exception error) {
                outcome = words(error);
            }
            tell("set", key, number, outcome, began);
            key = name + "-" + (number + 1) % KEYS;
            began = System.nanoTime();
            int found = -1;
            try {
                Object value = client.get(key);
                outcome = "ok";
                found = value == null ? -1 : Integer.parseInt((String) value);
            } catch (Exception error) {
                outcome = words(error);
            }
            tell("get", key, found, outcome, began);
            try {
                Thread.sleep(PAUSE_MS);
            } catch (InterruptedException error) {
                return;
            }
        }
    }

    private static synchronized void tell(
            String what, String key, int number, String outcome, long began) {
        System.out.println(what + " " + key + " " + number + " " + outcome + " " + began + " "
            + System.nanoTime());
    }

    private static String words(Throwable error) {
        while (error.getCause() != null) {
            error = error.getCause();
        }
        return error.getClass().getSimpleName();
    }
}
