// Swagger UI on the API's own document. The key that this tab has for the page is filled in; it is stored nowhere else.
import { key } from "./api.js";

const ui = window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null, // nobody else is asked about the document
  persistAuthorization: false,
  onComplete: () => key.get() && ui.preauthorizeApiKey("HTTPBearer", key.get()),
});
