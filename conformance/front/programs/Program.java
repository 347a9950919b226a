// One client in Java: the documented lines make `cache`, which does what it is told by lines.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.TimeUnit;
import net.spy.memcached.*;
import net.spy.memcached.ops.StatusCode;
import net.spy.memcached.internal.OperationFuture;

public class Program {
    public static void main(String[] arguments) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
        java.util.logging.Logger.getLogger("net.spy.memcached").setLevel(java.util.logging.Level.OFF);
        /* LINES */
        System.out.println("ready");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            String answer;
            try {
                answer = act(cache, words[0], words[1], words[2]);
            } catch (Exception error) {
                String text = String.valueOf(error.getMessage()).replaceAll("\\s+", " ");
                answer = "error " + error.getClass().getSimpleName() + " " + text;
            }
            System.out.println(answer);
        }
        System.exit(0);
    }

    private static String act(MemcachedClient cache, String verb, String key, String value)
            throws Exception {
        if (verb.equals("get")) {
            Object found = cache.get(key);
            return found == null ? "none" : "value " + found;
        }
        OperationFuture<Boolean> asked =
                verb.equals("set") ? cache.set(key, 0, value) : cache.delete(key);
        asked.get(1, TimeUnit.SECONDS);
        StatusCode code = asked.getStatus().getStatusCode();
        boolean done = code == StatusCode.SUCCESS || code == StatusCode.ERR_NOT_FOUND;
        return done ? "done" : "error " + code;
    }
}
