import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import net.spy.memcached.AddrUtil;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.ConnectionFactoryBuilder.Locator;
import net.spy.memcached.DefaultHashAlgorithm;
import net.spy.memcached.FailureMode;
import net.spy.memcached.MemcachedClient;

/**
 * Asks one MemcachedClient what is asked here, a line at a time, by as many threads as connect.
 *
 * <p>"set KEY HEX", "get KEY", "delete KEY"; the answer is "ok", for a value that was found with an
 * x and its hexadecimal digits, or "failed" and why.
 */
public final class Driver {
    private static final long PATIENCE_MS = 10_000;

    private static MemcachedClient connect() throws Exception {
        // The block of docs/capacity.md.
        return client;
    }

    private static byte[] decode(String hex) {
        byte[] data = new byte[hex.length() / 2];
        for (int i = 0; i < data.length; i++) {
            data[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
        }
        return data;
    }

    private static String encode(byte[] data) {
        StringBuilder hex = new StringBuilder("x");
        for (byte each : data) {
            hex.append(Character.forDigit((each >> 4) & 15, 16)).append(Character.forDigit(each & 15, 16));
        }
        return hex.toString();
    }

    private static <T> T got(Future<T> future) throws Exception {
        return future.get(PATIENCE_MS, TimeUnit.MILLISECONDS);
    }

    private static String answer(MemcachedClient client, String[] words) {
        try {
            switch (words[0]) {
                case "set":
                    return got(client.set(words[1], 0, decode(words[2]))) ? "ok" : "failed: not stored";
                case "get":
                    Object found = client.get(words[1]);
                    return found == null ? "ok" : "ok " + encode((byte[]) found);
                case "delete":
                    got(client.delete(words[1]));
                    return "ok";
                default:
                    return "failed: what?";
            }
        } catch (Exception error) {
            return ("failed: " + error).replace('\n', ' ');
        }
    }

    private static void serve(MemcachedClient client, Socket stream) {
        try (stream) {
            stream.setTcpNoDelay(true);
            BufferedReader lines =
                new BufferedReader(
                    new InputStreamReader(stream.getInputStream(), StandardCharsets.US_ASCII));
            PrintStream answers = new PrintStream(stream.getOutputStream(), false, "US-ASCII");
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                answers.print(answer(client, line.split(" ")) + "\n");
                answers.flush();
            }
        } catch (Exception error) {
            System.err.println(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("net.spy.memcached").setLevel(Level.SEVERE);
        MemcachedClient client = connect();
        ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        System.out.println(listener.getLocalPort());
        while (true) {
            Socket stream = listener.accept();
            Thread thread = new Thread(() -> serve(client, stream));
            thread.setDaemon(true);
            thread.start();
        }
    }
}
