import java.io.Serializable;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/** What applications keep in sessions, made of one number, so that damage shows. */
final class Basket implements Serializable {
    private static final long serialVersionUID = 1L;

    private final List<String> names = new ArrayList<>();
    private final Map<String, BigDecimal> prices = new TreeMap<>();
    private final Date since;
    private final TimeUnit unit;
    private final long[] numbers;

    Basket(int n) {
        for (int i = 0; i < n % 7; i++) {
            names.add("thing \u00e4 " + n + "/" + i);
            prices.put("price " + i, new BigDecimal(n + "." + i));
        }
        since = new Date(1_600_000_000_000L + n);
        unit = TimeUnit.values()[n % TimeUnit.values().length];
        numbers = new long[] {n, -n, Long.MIN_VALUE + n};
    }

    @Override
    public boolean equals(Object other) {
        if (!(other instanceof Basket)) {
            return false;
        }
        Basket basket = (Basket) other;
        return names.equals(basket.names) && prices.equals(basket.prices)
            && since.equals(basket.since) && unit == basket.unit
            && java.util.Arrays.equals(numbers, basket.numbers);
    }

    @Override
    public int hashCode() {
        return Objects.hash(names, prices, since, unit);
    }
}
