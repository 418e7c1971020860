// Swagger UI with the API's own document. The key of this tab is filled in; it is stored nowhere else.
import { key } from "./api.js";

const ui = window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null, // the document is sent to no validator
  persistAuthorization: false,
  onComplete: () => key.get() && ui.preauthorizeApiKey("HTTPBearer", key.get()),
});
